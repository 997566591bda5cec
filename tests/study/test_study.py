"""Studies: runs that are killed, resumed, sharded and merged; DPO steps; the command."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

from icl_local import store, study
from icl_local.cli import main
from icl_local.exchange import merge
from icl_local.running import Event
from icl_local.running.shard import Shard
from icl_local.study.spec import load_study
from tests.fake_hub import FIRST, NAME, REPO, serving
from tests.faulty_server import FaultyServer
from tests.shared import Run
from tests.study.conftest import OPTIONS
from tests.tiny_checkpoint import build_checkpoint
from tests.tiny_model import build_tiny_gguf, merges_of_prompts


def exit_code(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    return int(stopped.value.code or 0)


def texts(database: Path) -> dict[str, str]:
    return dict(store.query(database, "select response_id, raw_text from responses").rows)


def test_a_missing_model_or_judge_does_not_stop_the_others(tiny_study: Path, whole: tuple[Path, study.Outcome]) -> None:
    db, outcome = whole
    assert outcome.n_new == 24
    *cells, judge = outcome.failures
    assert len(cells) == 4
    assert all("nowhere" in failure.what for failure in cells)
    assert judge.what == "judge local:nowhere.gguf"
    again = study.run_study(db, load_study(str(tiny_study)), options=OPTIONS, probe=False, judge=False)
    assert (again.n_new, len(again.failures)) == (0, 4)
    (grid,) = study.grids(db)
    assert (grid.title, grid.columns) == ("mine", ("model", "method", "en", "es"))
    assert ("tiny", "zero-shot", "6/6", "6/6") in grid.rows
    assert ("nowhere", "instruct", "0/6", "0/6") in grid.rows


@pytest.mark.parametrize(
    ("judge", "max_cost", "reason"),
    [
        ("openai:m", None, "OPENAI_API_KEY is not set; set it, "),
        ("openai:m@http://127.0.0.1:9/v1", 1.0, "no price is stated for m at "),
        ("local:nowhere.gguf", None, "nowhere.gguf: no such file"),
    ],
)
def test_a_judge_that_cannot_be_opened_is_reported_before_the_first_cell(
    tiny_study: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    judge: str,
    max_cost: float | None,
    reason: str,
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    file, seen = tiny_study.with_name("judged-by-none.toml"), list[str]()
    file.write_text(tiny_study.read_text().replace("local:nowhere.gguf", judge))
    outcome = study.run_study(
        tmp_path / "x.duckdb", load_study(str(file), limit=1), options=OPTIONS, probe=False, max_cost=max_cost,
        on_note=seen.append, on_event=lambda event: seen.append(event.kind),
    )  # fmt: skip
    assert seen[0].startswith(f"judge {judge}: {reason}")
    assert (outcome.n_new, outcome.failures[-1].what) == (4, f"judge {judge}")
    assert seen[0] == f"judge {judge}: {outcome.failures[-1].reason}"


def test_a_study_of_a_method_of_ones_own(tiny_gguf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine" / "methods").mkdir(parents=True)
    method = 'description = "one word"\nkind = "completion"\nprefix = "terse.{language}.txt"\n'
    (tmp_path / "mine" / "methods" / "terse.toml").write_text(method)
    (tmp_path / "mine" / "terse.en.txt").write_text("Answer in one word.\n")
    file, db = tmp_path / "own.toml", tmp_path / "x.duckdb"
    cells = f'[[cells]]\nmodels = ["{tiny_gguf}"]\nmethods = ["terse"]\nlanguages = ["en"]\n'
    decoding = "[decoding]\nmax_tokens = 4\n"
    file.write_text(f'limit = 2\nprompt_dir = "mine"\n[queries]\nen = "samples"\n{decoding}{cells}')
    run_it = ["--no-probe", "--threads", "1", "--db", str(db)]
    assert exit_code("study", str(file), "--plan", "--db", str(db)) == 0
    assert exit_code("study", str(file), *run_it) == 0
    asked = "select any_value(head), count(*) from raw.responses join raw.prompts using (prompt_id)"
    ((head, n),) = store.query(db, asked).rows
    assert (head.startswith("Answer in one word."), n) == (True, 2)
    file.write_text(file.read_text().replace('prompt_dir = "mine"\n', ""))
    capsys.readouterr()
    assert exit_code("study", str(file), *run_it) == 1
    assert "no method 'terse'" in capsys.readouterr().err
    assert exit_code("study", str(file), *run_it, "--prompt-dir", str(tmp_path / "mine")) == 0


def test_two_shards_merged_are_the_whole_study(
    tiny_study: Path, whole: tuple[Path, study.Outcome], tmp_path: Path
) -> None:
    requested = load_study(str(tiny_study))
    first, second = tmp_path / "first.duckdb", tmp_path / "second.duckdb"
    for number, db in ((1, first), (2, second)):
        study.run_study(db, requested, options=OPTIONS, probe=False, shard=Shard(number, 2), judge=False)
    assert len(texts(first)) == len(texts(second)) == 12
    assert not texts(first).keys() & texts(second).keys()
    with store.Store(first) as target:
        merged = merge.merge(target, second)
    assert merged.added["responses"] == 12
    assert not merged.differing
    assert texts(first) == texts(whole[0])
    (grid,) = study.grids(first)
    assert ("tiny", "instruct", "6/6", "6/6") in grid.rows


def test_a_study_shared_as_parquet_is_the_same_study(
    whole: tuple[Path, study.Outcome], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, db = tmp_path / "shared", tmp_path / "theirs.duckdb"
    export = ["export", "--format", "parquet", "--what", "all", "-o", str(folder), "--db", str(whole[0])]
    assert exit_code(*export) == 0
    assert exit_code("import", str(folder), "--db", str(db)) == 0
    assert texts(db) == texts(whole[0])
    assert study.grids(db) == study.grids(whole[0])
    for view in ("throughput", "error_rates", "progress"):
        sql = f"select count(*) from {view}"
        assert store.query(db, sql).rows == store.query(whole[0], sql).rows
    capsys.readouterr()
    assert exit_code("db", "merge", str(whole[0]), "--db", str(db)) == 0
    assert "responses" not in capsys.readouterr().out


def test_a_killed_study_resumes_and_ends_with_the_same_rows(
    tiny_study: Path, whole: tuple[Path, study.Outcome], tmp_path: Path
) -> None:
    killed = tmp_path / "killed.duckdb"
    store.Store(killed).close()
    code = (
        "import sys\nfrom pathlib import Path\nfrom icl_local import study\n"
        "from icl_local.study.spec import load_study\n"
        "from icl_local.engine.protocol import EngineOptions\n"
        "def on_event(event):\n"
        "    if event.kind == 'response':\n"
        "        print(flush=True)\n"
        "        sys.stdin.readline()\n"
        "study.run_study(Path(sys.argv[1]), load_study(sys.argv[2]), options=EngineOptions(parallel=2, threads=1),"
        " probe=False, on_event=on_event)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(killed), str(tiny_study)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for _ in range(8):
            process.stdout.readline()
            process.stdin.write(b"\n")
            process.stdin.flush()
        process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    kept = texts(killed)
    assert len(kept) == 9
    outcome = study.run_study(killed, load_study(str(tiny_study)), options=OPTIONS, probe=False, judge=False)
    assert outcome.n_new == 24 - 9
    assert texts(killed) == texts(whole[0])


def test_a_file_is_loaded_once_for_all_its_cells(tiny_study: Path, tmp_path: Path) -> None:
    other, both = tmp_path / "other.gguf", tiny_study.with_name("both.toml")
    build_tiny_gguf(other, seed=1, merges=merges_of_prompts())
    both.write_text(tiny_study.read_text().replace("nowhere.gguf", str(other), 1))
    order: list[str] = []

    def on_event(event: Event) -> None:
        if event.kind == "started":
            order.append(event.cell.model.label)

    requested = load_study(str(both), limit=1)
    study.run_study(tmp_path / "a.duckdb", requested, options=OPTIONS, probe=False, judge=False, on_event=on_event)
    assert sorted(order) == ["other"] * 4 + ["tiny"] * 4
    assert order in (sorted(order), sorted(order, reverse=True))


def test_a_judges_file_is_downloaded_after_the_cells(
    tiny_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, seen = tiny_study.with_name("judged-from-the-hub.toml"), list[str]()
    file.write_text(tiny_study.read_text().replace('nowhere.gguf"\n', f'{NAME}"\n'))
    with serving(tmp_path, monkeypatch):
        outcome = study.run_study(
            tmp_path / "x.duckdb", load_study(str(file), limit=1), options=OPTIONS, probe=False,
            on_event=lambda event: seen.append("event"), on_download=lambda *_: seen.append("download"),
        )  # fmt: skip
    assert seen.index("download") > seen.index("event")
    assert outcome.failures[-1].what == f"judge local:{NAME}"  # the file holds random bytes


def test_queries_may_have_other_columns_and_come_from_the_hub(
    tiny_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, icl: Run
) -> None:
    table = "uid,question\n1,One?\n2,Two?\n"
    (tmp_path / "q.csv").write_text(table)
    (tmp_path / "s.toml").write_text(
        f"""
[queries]
es = {{file = "q.csv", map = {{id = "uid", instruction = "question"}}}}
[queries.en]
file = "hf:{REPO}/test"
map = {{id = "uid", instruction = "question"}}
[decoding]
max_tokens = 6
[[cells]]
models = ["{tiny_gguf}"]
methods = ["zero-shot"]
languages = ["en", "es"]
"""
    )
    db, how = tmp_path / "x.duckdb", ("--no-probe", "--threads", 1, "--format", "csv")
    with serving(tmp_path, monkeypatch) as fake:
        fake.files = {(FIRST, "data/test.csv"): table.encode(), (FIRST, "data/train.csv"): b"uid\n"}
        fake.cards[FIRST] = {
            "configs": [{"config_name": "default", "data_files": {"test": "data/test*", "train": "*"}}]
        }
        code, out, err = icl("study", tmp_path / "s.toml", "--plan", "--format", "csv", "--db", db)
        assert (code, "missing" in err, out.count(",2,0,")) == (0, False, 2), err
        for n_new in (4, 0):
            code, out, err = icl("study", tmp_path / "s.toml", "--db", db, *how)
            assert (code, out.splitlines()[1:]) == (0, ["tiny,zero-shot,2/2,2/2"])
            assert f"{n_new} new responses" in err
        columns = "id=uid,instruction=question"
        of_run = ("run", "--model", tiny_gguf, "--max-tokens", 6, "--map", columns, "--no-probe", "--db", db)
        for source in ("en", f"hf:{REPO}/test"), ("es", tmp_path / "q.csv"):
            assert "0 new responses" in icl(*of_run, "--lang", source[0], "--queries", "=".join(map(str, source)))[2]
        text = (tmp_path / "s.toml").read_text()
        (tmp_path / "s.toml").write_text(text.replace("question", "query").replace("/test", "/tset"))
        said = icl("study", tmp_path / "s.toml", "--db", db, *how)[2]
        assert f"{tmp_path}/q.csv:2: has no column 'query'; it has uid, question" in said
        assert "name one config and split, or one file; there are default/test, default/train" in said
    rows = store.query(db, "select dataset, source from raw.datasets order by all").rows
    assert rows == [("q", "q.csv"), ("some-GGUF/test", f"hf:{REPO}/data/test.csv@{FIRST}")]
    code, _, err = icl("study", tmp_path / "s.toml", "--queries", f"en=hf:{REPO}/x", "--plan", "--db", db)
    assert f"missing: hf:{REPO}/x: " in err


def test_the_command_runs_a_file_and_status_shows_its_grid(
    tiny_study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    db = str(tmp_path / "a.duckdb")
    assert exit_code("study", str(tiny_study), "--limit", "1", "--no-probe", "--no-judge", "--db", db) == 1
    printed = capsys.readouterr()
    assert "Study mine" in printed.out
    assert "nowhere" in printed.err
    assert exit_code("status", "--db", db) == 0
    assert "1/1" in capsys.readouterr().out


def test_the_grid_is_of_the_last_call(tiny_gguf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    db, file = str(tmp_path / "a.duckdb"), tmp_path / "s.toml"
    text = f'[queries]\nen = "q.jsonl"\n[[cells]]\nmodels = ["{tiny_gguf}"]\nmethods = ["urial"]\nlanguages = ["en"]'
    file.write_text(f"dataset = 'mine'\n{text}\n[decoding]\nmax_tokens = 4\n[[judges]]\njudge = 'rules'")
    queries = tmp_path / "q.jsonl"
    queries.write_text('{"instruction": "one"}\n{"instruction": "two"}')
    command = ("study", str(file), "--no-probe", "--db", db)
    assert exit_code(*command, "--plan") == 0
    assert "judge rules: 2 judgments" in capsys.readouterr().err
    for more, grid in (((), "2/2 judged 2"), (("--limit", "1"), "1/1"), ((), "2/2")):
        assert exit_code(*command, *more) == 0
        assert grid in capsys.readouterr().out
    assert exit_code(*command, "--limit", "3", "--queries", "en=samples") == 0  # which have a name of their own
    assert "3/3" in capsys.readouterr().out
    queries.unlink()
    assert exit_code(*command) == 1
    printed = capsys.readouterr()
    assert "2/?" in printed.out
    assert "next:" not in printed.err


def test_a_study_trains_converts_runs_and_judges_its_dpo_variant(
    tiny_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ICL_MODELS_FILE", str(tmp_path / "models.toml"))
    base = build_checkpoint(tmp_path / "mini-hf", scale=0.1)
    sides = {"chosen": "The answer is cold.", "rejected": "no no no no"}
    asked = [{"role": "user", "content": "Write about the weather"}]
    pair = {side: [*asked, {"role": "assistant", "content": text}] for side, text in sides.items()}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(pair) + "\n")
    (tmp_path / "dpo.toml").write_text("max_steps = 2\ngradient_accumulation = 1\nlearning_rate = 5e-3\n")
    (tmp_path / "models.toml").write_text(
        f"""
[mini]
label = "Mini"
parameters = 1000
[mini.base]
gguf = "{tiny_gguf}"
[mini.base-dpo]
trained_from = "{base}"
"""
    )
    with FaultyServer() as server:
        (tmp_path / "s.toml").write_text(
            f"""
title = "Trained"
[queries]
en = "samples"
[decoding]
max_tokens = 6
[[cells]]
models = ["mini"]
methods = ["zero-shot", "urial"]
languages = ["en"]
[[cells]]
models = ["mini"]
methods = ["zero-shot", "urial"]
languages = ["en"]
dpo = true
[[dpo]]
model = "mini"
variant = "base"
dataset = "{tmp_path}/pairs.jsonl"
type = "f16"
config = "{tmp_path}/dpo.toml"
[[judges]]
judge = "openai:m@{server.url}"
"""
        )
        requested, db = load_study(str(tmp_path / "s.toml"), limit=3), tmp_path / "x.duckdb"
        notes: list[str] = []
        how = {"options": OPTIONS, "probe": False, "work": tmp_path}
        with pytest.raises(KeyboardInterrupt):  # in the first step of the training, whose checkpoint is saved
            study.run_study(db, requested, on_note=notes.append, stopping=lambda: nullcontext(lambda: True), **how)  # type: ignore[arg-type]
        outcome = study.run_study(db, requested, on_note=notes.append, **how)  # type: ignore[arg-type]
        assert outcome.failures == ()
        again = study.run_study(db, requested, on_note=notes.append, **how)  # type: ignore[arg-type]
    assert [note.split(":")[0] for note in notes if note.startswith("step")] == ["step 1 of 2", "step 2 of 2"]
    assert again.n_new == 0
    rows = store.query(db, "select model, method, dpo, n from table_8 order by all").rows
    assert rows == [("Mini", method, dpo, 3) for method in ("urial", "zero-shot") for dpo in (False, True)]
    sql = "select gate, base_source, dataset, n_responses, n_judgments from lineage where training_run_id is not null"
    (lineage,) = store.query(db, sql).rows
    assert lineage == ("passed", "mini-hf", "pairs.jsonl", 6, 6)


@pytest.mark.soak
def test_the_demo_study_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    db = str(tmp_path / "demo.duckdb")
    assert exit_code("study", "demo", "--db", db) == 0
    assert capsys.readouterr().out.count("12/12") == 9
