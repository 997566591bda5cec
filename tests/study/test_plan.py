"""Plans: without files, with exact tokens, with what the database has."""

from __future__ import annotations

from pathlib import Path

import pytest

from icl_local import study
from icl_local.engine import tokenize
from icl_local.running.cells import CellPlan
from icl_local.study.plan import plan_study
from icl_local.study.spec import load_study
from tests.counting import calls
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
        ready, missing = study.prepare(requested, requested.cells)
        assert not missing
        for one, cell in ready:
            prompts = [prompt.text for _, prompt in CellPlan(cell, requested.decoding, None).by_key.values()]
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
