"""Scoring of stored answers on tiny files: what is stored, what resumes, and what is refused."""

from __future__ import annotations

import json
import math
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from icl_local import store
from icl_local.cli import icl
from icl_local.engine import tokenize
from icl_local.exceptions import ConfigError, ModelError
from icl_local.exchange.merge import merge
from icl_local.identity import key_of
from icl_local.running import Event, cells, load_queries, run, scoring
from icl_local.store import upkeep
from icl_local.weights import read_info, require_same_tokens
from tests.running.conftest import write_queries
from tests.tiny_model import build_tiny_gguf, merges_of_prompts

pytestmark = pytest.mark.usefixtures("small_probe")
ALL = "select * exclude (run_id, created_at, exact) from raw.scorings order by scoring_id"
PROMPTS = ("same", "zero-shot")


@pytest.fixture(scope="module")
def aligned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another file with the tokenizer of the tiny one."""
    path = tmp_path_factory.mktemp("aligned") / "aligned.gguf"
    build_tiny_gguf(path, seed=1, merges=merges_of_prompts())
    return path


@pytest.fixture(scope="module")
def made(aligned: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with eight answers of that file."""
    path = tmp_path_factory.mktemp("made") / "x.duckdb"
    query_file = write_queries(path.with_name("queries.jsonl"))
    planned = cells.plan_cells([str(aligned)], ["instruct"], load_queries(["en"], [str(query_file)], limit=8))
    run.run_cells(path, planned, decoding=cells.Decoding(max_tokens=12, repetition_penalty=1.0), probe=False, verify=0)
    return path


@pytest.fixture
def db(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(store.spool_folder(made), store.spool_folder(tmp_path / "x.duckdb"))
    return Path(shutil.copy(made, tmp_path / "x.duckdb"))


def score(db: Path, model: Path, aligned: Path, **more: Any) -> list[scoring.Job]:
    how = {"texts": "instruct", "method": PROMPTS, **more}
    return scoring.score_texts(db, model=str(model), texts_model=str(aligned), parallel=4, **how)


def n_made(jobs: list[scoring.Job], reason: str = "scored") -> int:
    return sum(job.made[reason] for job in jobs)


def test_answers_are_scored_once_under_every_prompt(db: Path, exact_gguf: Path, aligned: Path) -> None:
    planned = score(db, exact_gguf, aligned, plan=True)
    assert [job.counts()[1:4] for job in planned] == [("own", 8, 8), ("same", 8, 8), ("zero-shot", 8, 8)]
    assert n_made(score(db, exact_gguf, aligned)) == 24
    assert n_made(score(db, exact_gguf, aligned)) == 0
    joined = "from raw.scorings join raw.responses as made using (response_id)"
    found = store.query(db, f"select scorings.*, made.tokens as made {joined}").dicts()
    assert {row["tokens"] == row["made"] for row in found} == {True}
    assert {len(row["ranks"]) == len(row["logprobs"]) == len(row["tokens"]) for row in found} == {True}
    assert {(row["penalty"], row["retokenised"], row["exact"]) for row in found} == {(1.0, False, True)}
    assert all(row["logprob"] == pytest.approx(sum(row["logprobs"]), rel=1e-5) for row in found)
    assert {tuple(set(row["ranks"])) for row in found if row["method"] == "own"} == {(1,)}
    assert store.query(db, "from broken_references").rows == []
    lacking = "select unnest(tokens || top_ids) from raw.scorings except select token_id from raw.tokens"
    assert store.query(db, lacking).rows == []
    assert store.query(db, "select count(*), count(token), count(top_token) from token_positions").rows == [
        (sum(len(row["tokens"]) for row in found),) * 3
    ]


def test_a_command_that_is_interrupted_goes_on_where_it_was(
    db: Path, exact_gguf: Path, aligned: Path, tmp_path: Path
) -> None:
    def stop_after(n: int) -> Callable[[Event], None]:
        def on_event(event: Event) -> None:
            if event.kind == "progress" and event.n_done >= n:
                raise KeyboardInterrupt

        return on_event

    for n in (3, 6):
        with pytest.raises(KeyboardInterrupt):
            score(db, exact_gguf, aligned, on_event=stop_after(n))
    ((kept,),) = store.query(db, "select count(*) from raw.scorings").rows
    assert 0 < kept < 24
    assert n_made(score(db, exact_gguf, aligned)) == 24 - kept
    resumed = store.query(db, ALL).rows
    other = tmp_path / "whole.duckdb"
    upkeep.snapshot(db, other)
    with store.writer(other, wait_seconds=1) as con:
        con.execute("delete from raw.scorings")
        con.execute("delete from raw.tokens")
    score(other, exact_gguf, aligned)
    assert store.query(other, ALL).rows == resumed
    with store.Store(db) as target:
        assert merge(target, other).added.get("scorings") is None


def test_a_second_command_waits_and_scores_nothing_twice(db: Path, exact_gguf: Path, aligned: Path) -> None:
    made: list[list[scoring.Job]] = []
    waits = threading.Event()

    def on_second(event: Event) -> None:
        if event.message == "another process scores these texts; waiting for it":
            waits.set()

    second = threading.Thread(target=lambda: made.append(score(db, exact_gguf, aligned, on_event=on_second)))

    def start_second(event: Event) -> None:
        if event.kind == "progress" and second.ident is None:
            second.start()
            assert waits.wait(60)

    made.append(score(db, exact_gguf, aligned, on_event=start_second))
    second.join()
    assert sum(map(n_made, made)) == 24


def test_progress_begins_before_the_first_text_and_counts_what_another_process_made(
    db: Path, exact_gguf: Path, aligned: Path
) -> None:
    events: dict[str, list[int]] = {}
    waits = threading.Event()

    def on_event(event: Event) -> None:
        waits.set()
        if event.kind == "progress":
            events.setdefault(event.cell.label.split(" · ")[-1], []).append(event.n_done)

    score(db, exact_gguf, aligned, limit=5, method=())
    part = Path(shutil.copy(db, db.with_name("part.duckdb")))
    shutil.copytree(store.spool_folder(db), store.spool_folder(part))
    score(db, exact_gguf, aligned, method=())
    other = store.query(db, "from raw.scorings order by scoring_id").records()
    keys = {row["scoring_id"] for row in other}
    assert len(keys) == 8
    with store.only_one(part, f"scorings-{key_of(kind='lock', keys=sorted(keys))}", lambda: None):
        waiting = threading.Thread(target=score, args=(part, exact_gguf, aligned), kwargs={"on_event": on_event})
        waiting.start()
        assert waits.wait(60)
        done = store.ids(part, "scorings", "scoring_id")
        new = [("scorings", row) for row in other if row["scoring_id"] not in done]
        with store.Store(part) as target:
            target.put(new[:2])
    waiting.join()
    assert events == {"own": [7, 8], "same": [*range(9)], "zero-shot": [*range(9)]}


def test_a_forgotten_answer_takes_its_scores_along(db: Path, exact_gguf: Path, aligned: Path) -> None:
    score(db, exact_gguf, aligned, limit=2)
    ((first,),) = store.query(db, "select min(response_id) from raw.scorings").rows
    upkeep.forget(db, [first])
    assert store.query(db, "select count(*), count(distinct response_id) from raw.scorings").rows == [(3, 1)]


def test_answers_stored_without_tokens_are_cut_by_their_files_tokenizer(
    db: Path, exact_gguf: Path, aligned: Path
) -> None:
    with store.writer(db, wait_seconds=1) as con:
        con.execute("update raw.responses set tokens = null, raw_text = 'the thin one'")
    score(db, exact_gguf, aligned, limit=1)
    found = store.query(db, "select distinct tokens, retokenised, n_bytes from raw.scorings").rows
    assert found == [(tokenize(aligned, ["the thin one"], add_special=False)[0], True, 12)]


def test_a_file_with_a_changed_merge_is_refused(db: Path, tiny_gguf: Path, aligned: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.gguf"
    data, merge = tiny_gguf.read_bytes(), (3).to_bytes(8, "little") + b"a n"
    assert merge in data
    other.write_bytes(data.replace(merge, merge[:-1] + b"o"))
    with pytest.raises(ModelError, match=r"another tokenizer than aligned.gguf \(tokenizer.ggml.merges\)"):
        score(db, other, aligned)


def test_a_file_that_differs_in_a_token_that_does_not_occur_is_taken(
    db: Path, tiny_gguf: Path, aligned: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.gguf"
    data = tiny_gguf.read_bytes()
    other.write_bytes(data.replace(b"<|endoftext|>", b"<|otherside|>"))
    assert read_info(other).vocab_sha256 != read_info(tiny_gguf).vocab_sha256
    assert n_made(score(db, other, aligned, method=["same"], limit=1)) == 2
    with pytest.raises(ModelError, match=r"other\.gguf has another tokenizer than tiny\.gguf: token 0 is '<\|end"):
        require_same_tokens(tiny_gguf, other, [300, 0])


def test_a_file_that_states_a_default_of_its_tokenizer_is_taken(tiny_gguf: Path, tmp_path: Path) -> None:
    other, data = tmp_path / "other.gguf", tiny_gguf.read_bytes()
    keys = [f"tokenizer.ggml.{name}".encode() for name in ("add_bos_token", "add_space_prefix")]
    pair, stated = (len(key).to_bytes(8, "little") + key + b"\7\0\0\0\0" for key in keys)  # 7: a truth value, 0: false
    assert pair in data
    other.write_bytes(data.replace(pair, stated))  # only the header is read
    require_same_tokens(tiny_gguf, other, [300])
    other.write_bytes(data.replace(pair, stated[:-1] + b"\1"))
    with pytest.raises(ModelError, match="add_space_prefix"):
        require_same_tokens(tiny_gguf, other, [300])


def test_a_text_beyond_the_context_has_a_row_that_says_so(db: Path, aligned: Path, tmp_path: Path) -> None:
    small = tmp_path / "small.gguf"
    build_tiny_gguf(small, n_ctx=128, merges=merges_of_prompts())
    jobs = score(db, small, aligned, method=["urial"], limit=2)
    assert (n_made(jobs), n_made(jobs, "prompt_too_long")) == (2, 2)
    rows = store.query(
        db, "select method, finish_reason, len(ranks) > 0 from raw.scorings group by all order by all"
    ).rows
    assert rows == [("own", "scored", True), ("urial", "prompt_too_long", False)]
    assert n_made(score(db, small, aligned, method=["urial"], limit=2)) == 0


def test_answers_that_are_not_there_are_named_with_the_run_that_makes_them(db: Path, tiny_gguf: Path) -> None:
    asked = r"no answers of tiny.gguf by instruct; make them: icl run --model \S+ --method instruct --lang en,fr"
    with pytest.raises(ConfigError, match=asked):
        scoring.score_texts(db, model=str(tiny_gguf), texts="instruct", lang=["en", "fr"])


def test_references_are_scored_after_the_prompt(tmp_path: Path, exact_gguf: Path) -> None:
    file, db = tmp_path / "quiz.jsonl", tmp_path / "x.duckdb"
    items = [{"id": i, "question": f"What is {i}?", "reference": [f"the {i}", "none", "none"]} for i in range(3)]
    file.write_text("".join(json.dumps(item) + "\n" for item in items))
    store.Store(db).close()
    asked = {"model": str(exact_gguf), "texts": "reference", "method": ["zero-shot"], "queries": [str(file)]}
    asked["columns"] = {"instruction": "question"}
    for method, message in ((["same"], "references have no prompt of their own"), (["own"], "leave own out")):
        with pytest.raises(ConfigError, match=message):
            scoring.score_texts(db, **{**asked, "method": method})
    assert n_made(scoring.score_texts(db, **asked)) == 6
    assert n_made(scoring.score_texts(db, **asked)) == 0
    rows = store.query(db, "select kind, choice, n_bytes, logprob, len(tokens) from raw.scorings order by all").rows
    assert [row[:3] for row in rows] == [("reference", 0, 5)] * 3 + [("reference", 1, 4)] * 3
    assert all(math.isfinite(row[3]) and row[3] < 0 < row[4] for row in rows)
    kept = store.query(
        db, "select method, language, dpo, n_references, n_straddling, n_bytes from reference_probabilities"
    )
    assert kept.rows == [("zero-shot", "en", False, 6, 0, 27)]
    bits, n_tokens = -sum(row[3] for row in rows) / math.log(2), sum(row[4] for row in rows)
    ((per_byte, perplexity),) = store.query(db, "select bits_per_byte, perplexity from reference_probabilities").rows
    assert per_byte == pytest.approx(bits / 27)
    assert perplexity == pytest.approx(2 ** (bits / n_tokens))
    file.write_text(json.dumps({"id": 0, "question": "What is 0?", "reference": ["the nought", "none"]}))
    assert n_made(scoring.score_texts(db, **asked)) == 1
    assert store.query(db, "select n_references, n_bytes from reference_probabilities").rows == [(6, 32)]
    file.write_text(json.dumps({"id": 1, "question": "What?"}))
    with pytest.raises(ConfigError, match="no references"):
        scoring.score_texts(db, **asked)


def test_the_commands_plan_score_and_show_the_shift(db: Path, exact_gguf: Path, aligned: Path) -> None:
    def run_command(*arguments: str) -> str:
        result = CliRunner().invoke(icl, [*arguments, "--db", str(db)], catch_exceptions=False)
        assert result.exit_code == 0
        return result.output

    command = [
        "score",
        "--model",
        str(exact_gguf),
        "--texts",
        "instruct",
        "--texts-model",
        str(aligned),
        "--limit",
        "2",
    ]
    planned = run_command(*command, "--plan", "--format", "csv").splitlines()
    assert planned[0] == ",".join(scoring.COLUMNS)
    assert [line.split(",")[1:4] for line in planned[1:]] == [["own", "2", "2"], ["same", "2", "2"]]
    assert f"4 texts scored; see: icl shift --db {db}" in run_command(*command).replace("\n", "")
    assert "0 texts scored" in run_command(*command)
    lines = run_command("shift").splitlines()
    assert [line for line in lines if line[:1] not in ("", " ")] == [
        "Token shift in percent of tokens (all)",
        "unshifted: the scoring model's first choice; marginal: its second or third; shifted: beyond, with a 95 % "
        "interval over answers.",
        "own: the answer's own file and prompt; same: its own prompt, the base file.",
        "Shifted tokens in percent, by position in the answer",
        "Most shifted tokens, and what the scoring model would write",
        "Published shares in percent (Lin et al., 2023)",
    ]
    shown = run_command("shift", "--format", "json")
    assert '"under_method": "own"' in shown
    assert '"under_method": "same"' in shown
