"""Plans: without files, with exact tokens, with what the database has."""

from __future__ import annotations

import re
import shutil
import time
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from icl_local import store, study
from icl_local.engine import tokenize
from icl_local.running.cells import CellPlan, Decoding
from icl_local.study.plan import _flops, plan_study
from icl_local.study.spec import load_study
from tests.counting import calls
from tests.faulty_server import FaultyServer
from tests.judge_rows import database, response_rows
from tests.study.conftest import OPTIONS
from tests.study.test_study import exit_code


def test_the_papers_plan_needs_no_file_and_lists_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("HF_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.chdir(tmp_path)
    codes: list[int] = []
    assert calls(lambda: codes.append(exit_code("study", "paper", "--plan", "--format", "csv"))) < 3_000_000
    assert codes == [0]
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 1 + 29 + 1
    assert "29000" in printed.out
    assert "icl convert meta-llama/Llama-3.1-8B" in printed.err
    assert "made by the study's own DPO step" in printed.err
    assert "icl data pull just-eval --lang es" in printed.err
    assert "$" in printed.err
    assert not list(tmp_path.glob("*.duckdb*"))


def test_planned_tokens_are_those_of_the_tokenizer(tiny_gguf: Path, tmp_path: Path, embedded_model: Path) -> None:
    for model in (tiny_gguf, embedded_model):
        path = tmp_path / "s.toml"
        path.write_text(
            f"[queries]\nen='samples'\nfr='samples'\n[[cells]]\nmodels=['{model}']\n"
            "methods=['zero-shot','urial','instruct']\nlanguages=['en','fr']\n"
        )
        requested = load_study(str(path))
        plan = plan_study(tmp_path / "none.duckdb", requested)
        ready, missing = study.prepare(requested, requested.cells, requested.query_sets())
        assert not missing
        for one, cell in ready.items():
            prompts = [prompt.text for _, prompt in CellPlan(cell, requested.decoding).by_key.values()]
            exact = [len(ids) for ids in tokenize(model, prompts)]
            (planned,) = (estimate for estimate in plan.cells if estimate.cell == one)
            assert planned.prompt_tokens == sum(exact)
            assert planned.prefilled_tokens <= planned.prompt_tokens
            if one.method == "urial":
                assert planned.prefilled_tokens < max(exact) + sum(exact) * 0.2
        assert not (tmp_path / "none.duckdb").exists()


def test_a_plan_counts_what_is_done_and_extrapolates_from_stored_responses(
    tiny_study: Path, whole: tuple[Path, study.Outcome], tmp_path: Path
) -> None:
    requested = load_study(str(tiny_study))
    before = plan_study(tmp_path / "none.duckdb", requested)
    assert [cell.n_done for cell in before.cells] == [0] * 8
    assert "guess" in before.speed
    after = plan_study(whole[0], requested)
    assert sorted(cell.n_done for cell in after.cells) == [0] * 4 + [6] * 4
    assert all(cell.new_tokens == 0 and cell.seconds == 0 for cell in after.cells if cell.n_done)
    assert "measured" in after.speed


def test_lengths_under_another_token_limit_do_not_count(tiny_study: Path, whole: tuple[Path, study.Outcome]) -> None:
    requested = load_study(str(tiny_study))
    for cell in plan_study(whole[0], requested).cells:
        same = "model, method and language" if cell.n_done else "method and language"
        assert re.fullmatch(f"6 responses of the same {same}, [0-6] of them cut at 6 tokens", str(cell.outputs))
    longer = replace(requested, decoding=replace(requested.decoding, max_tokens=1000))
    assert {(cell.outputs, cell.new_tokens) for cell in plan_study(whole[0], longer).cells} == {(None, 6 * 310)}
    shorter = replace(requested, decoding=replace(requested.decoding, max_tokens=2))
    assert all(0 < cell.new_tokens <= 6 * 2 for cell in plan_study(whole[0], shorter).cells)


def test_a_plan_prices_what_the_study_would_judge_and_nothing_else(
    tiny_study: Path, whole: tuple[Path, study.Outcome], tmp_path: Path
) -> None:
    db = Path(shutil.copy(whole[0], tmp_path / "judged.duckdb"))
    with FaultyServer() as server:
        (tiny_study.with_name("judged.toml")).write_text(
            tiny_study.read_text().replace("local:nowhere.gguf", f"openai:m@{server.url}")
        )
        requested = load_study(str(tiny_study.with_name("judged.toml")), limit=1)
        to_come = 4  # of the model whose file is missing
        assert plan_study(db, requested).judges[0].total.missing == 4 + to_come
        how: dict[str, Any] = {"options": OPTIONS, "probe": False}
        capped = study.run_study(db, requested, max_cost=1.0, **how)
        assert "no price" in capped.failures[-1].reason
        assert not server.bodies
        (progress,) = study.run_study(db, requested, **how).judged.values()
        assert (progress.requested, progress.before.total()) == (4, 0)
        assert plan_study(db, requested).judges[0].total.missing == to_come


def test_prices_of_a_file_count_and_each_variant_of_a_judge_shows(tiny_study: Path, tmp_path: Path) -> None:
    db, prices = tmp_path / "x.duckdb", tmp_path / "prices.toml"
    with FaultyServer() as server:
        judge = f"openai:m@{server.url}"
        prices.write_text("[models.m]\ninput = 1.0\noutput = 2.0\n")
        file = tiny_study.with_name("priced.toml")
        both = tiny_study.read_text().replace("local:nowhere.gguf", judge)
        file.write_text(f'{both}[[judges]]\njudge = "{judge}"\nvariant = "rubric-first"\n')
        command = ("study", str(file), "--limit", "1", "--db", str(db), "--prices", str(prices))
        assert exit_code(*command, "--plan") == 0
        requested = load_study(str(file), limit=1)
        plan = plan_study(db, requested, prices=prices)
        assert [judge.total.usd is None for judge in plan.judges] == [False, False]
        assert "(rubric-first): " in plan.judges[1].line
        outcome = study.run_study(db, requested, options=OPTIONS, probe=False, max_cost=1.0, prices=prices)
    assert [(spec.variant, done.requested) for spec, done in outcome.judged.items()] == [
        ("published", 4), ("rubric-first", 4),
    ]  # fmt: skip


def test_stored_responses_are_found_by_the_settings_of_a_study(tmp_path: Path) -> None:
    sampled = Decoding(kv_type="f16", temperature=0.7, top_p=0.9, draws=2, draw_seed=3)
    settings = [
        Decoding(kv_type="f16"),
        Decoding(kv_type="f16", plain_queries=True),
        Decoding(kv_type="f16", stop_on_loop=True),
        Decoding(kv_type="f16", decode="choices"),
        sampled,
        replace(sampled, draw_seed=4),
    ]
    method: Any = SimpleNamespace(kind="completion")
    rows = [one.row(method, SimpleNamespace()) for one in settings]  # type: ignore[arg-type]
    records = response_rows(len(settings))
    responses = [row for table, row in records if table == "responses"]
    for one, row, response in zip(settings, rows, responses, strict=True):
        drawn = {"draw": 1, "draw_seed": one.draw_seed} if one.temperature else {}
        response |= {"settings_id": row["settings_id"], **drawn}
    db = database(tmp_path / "x.duckdb", records, [("settings", row) for row in rows])
    for one, response in zip(settings, responses, strict=True):
        found = store.named(db, "study_responses", [asdict(one)]).dicts()
        assert [row["response_id"] for row in found] == [response["response_id"]]


def test_a_slow_first_product_does_not_end_the_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[float] = []

    class Matrix:
        def __matmul__(self, other: object) -> None:
            time.sleep(0.01 if calls else 0.25)
            calls.append(0)

    monkeypatch.setattr("numpy.ones", lambda *shape, **kind: Matrix())
    _flops()
    assert len(calls) > 10
