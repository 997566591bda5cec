"""just-eval's judgment files come in through this project's parser, attach to what is there, and go out again."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from icl_local import store
from icl_local.exceptions import HubError, InputError
from icl_local.judging import draw_sample, just_eval_verdicts, pull_verdicts
from icl_local.judging.imports import import_judgments
from icl_local.judging.template import Template
from icl_local.prompting import json_items
from icl_local.store import Selection
from icl_local.store.database import Store
from tests.judge_rows import database, response_rows

TEXT = """## Query:
${instruction}
## Output:
${candidate}
## Evaluate
{"helpfulness": {"reason": "", "score": ""}, "clarity": {"reason": "", "score": ""}}
"""


def item(
    number: int, result: str, *, generator: str = "peer-7b", instruction: str | None = None, output: str = "Answer"
):
    instruction = instruction or f"Question {number}?"
    return {
        "id": number,
        "input": instruction,
        "output_cand": f"{output} {number}",
        "generator_cand": generator,
        "eval_config": {"mode": "score_multi", "gpt": "gpt-4-0314", "max_words": -1},
        "prompt": Template("peer", TEXT).fill(instruction, f"{output} {number}"),
        "result": result,
        "parsed_result": {"helpfulness": {"reason": "", "score": "5"}, "clarity": {"reason": "", "score": "5"}},
    }


def verdict(helpfulness: object, clarity: object) -> str:
    return json.dumps(
        {"helpfulness": {"reason": "r", "score": helpfulness}, "clarity": {"reason": "r", "score": clarity}}
    )


def bring_in(path: Path, items: list[dict], name: str = "judged.json"):
    file = path.with_name(name)
    file.write_text(json.dumps(items))
    with Store(path) as target:
        return import_judgments(target, json_items.read_file(file), source=file.name)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return database(tmp_path / "t.duckdb")


def test_the_raw_result_is_read_never_the_parsed_one(path):
    results = [verdict(4, 3), verdict("2", "N/A"), "Rate limit exceeded, score 5", verdict(9, 3), "N/A"]
    done = bring_in(path, [item(n, result) for n, result in enumerate(results)])
    assert (done.read, done.not_judged, done.new_responses) == (4, 1, 5)
    assert done.added == {"ok": 1, "not_applicable": 1, "parse_error": 1, "out_of_range": 1}
    rows = store.query(path, "select query_id, metric, score from scores join responses using (response_id)").rows
    assert {(query, metric): score for query, metric, score in rows} == {
        ("0", "helpfulness"): 4.0,
        ("0", "clarity"): 3.0,
        ("1", "helpfulness"): 2.0,
        ("1", "clarity"): None,
        ("2", "helpfulness"): None,
        ("2", "clarity"): None,
        ("3", "helpfulness"): None,
        ("3", "clarity"): 3.0,
    }


def test_importing_twice_adds_nothing(path):
    items = [item(n, verdict(4, 3)) for n in range(3)]
    assert bring_in(path, items).added.total() == 3
    again = bring_in(path, items, "copy.json")
    assert (again.added.total(), again.new_responses) == (0, 0)
    assert store.query(path, "select count(*) from responses").rows == [(3,)]


def test_a_judgment_goes_to_the_response_of_the_model_that_said_it(tmp_path):
    one, other = response_rows(2, model="Tiny 1B"), response_rows(2, model="Tiny 1B DPO")
    path = database(tmp_path / "t.duckdb", one, other)
    asked = {r["query_key"]: r["instruction"] for table, r in one if table == "queries"}
    said = [r for table, r in one if table == "responses"]
    items = [
        {
            **item(n, verdict(4, 3), generator="Tiny 1B DPO.urial"),
            "input": asked[row["query_key"]],
            "output_cand": row["text"],
            "prompt": Template("peer", TEXT).fill(asked[row["query_key"]], row["text"]),
        }
        for n, row in enumerate(said)
    ]
    assert bring_in(path, items).new_responses == 0
    assert store.query(path, "select distinct model, method from judgments").rows == [("Tiny 1B DPO", "urial")]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"prompt": "something else"}, "no template fits"),
        ({"eval_config": None}, "no eval_config"),
        ({"output_cand": 3}, "output_cand"),
        ({"result": {"clarity": 5}}, "`result` is not a text"),
    ],
)
def test_a_file_without_judgments_is_refused_and_nothing_is_stored(path, change, message):
    with pytest.raises(InputError, match=message):
        bring_in(path, [item(0, verdict(4, 3)), {**item(1, verdict(4, 3)), **change}])
    assert store.query(path, "select count(*) from responses").rows == [(0,)]


@pytest.mark.parametrize("split, n, metrics", [("multi", 6, 5), ("safety", 4, 1)])
def test_the_peer_s_published_judgments_come_in(path, shared_dir, split, n, metrics):
    file = shared_dir / "just_eval" / f"peer_judgments_{split}.example.json"
    items = json_items.read_file(file)
    with Store(path) as target:
        done = import_judgments(target, items, source=file.name)
    assert done.added == {"ok": n}
    assert store.query(path, "select distinct split, repairs from judgments").rows == [(split, [])]
    scores = store.query(path, "select instruction, metric, score from scores join responses using (response_id)").rows
    assert len(scores) == n * metrics
    by_input = {one.data["input"]: one.data["parsed_result"] for one in items}
    assert all(score == float(by_input[instruction][metric]["score"]) for instruction, metric, score in scores)


def test_repeated_queries_with_repeated_answers_keep_a_verdict_each(path):
    """Just-Eval repeats texts under different ids; a model that decodes greedily repeats its answer."""
    items = [item(n % 7, verdict(1 + n % 5, 3)) | {"id": n} for n in range(20)]
    done = bring_in(path, items)
    assert (done.read, done.added.total(), done.new_responses) == (20, 20, 20)
    found = store.query(
        path,
        "select query_id::integer, score from scores join responses using (response_id) where metric = 'helpfulness'",
    ).rows
    assert sorted(found) == [(n, 1.0 + n % 5) for n in range(20)]
    assert bring_in(path, items).added.total() == 0


def test_verdicts_of_another_copy_of_the_set_go_to_equal_texts_one_to_one(path):
    outputs = [item(n % 3, verdict(2, 2)) | {"id": n} for n in range(6)]
    bring_in(path, outputs, "mine.json")
    renumbered = [one | {"id": one["id"] + 100, "eval_config": {"gpt": "gpt-5", "max_words": -1}} for one in outputs]
    done = bring_in(path, renumbered, "theirs.json")
    assert (done.added.total(), done.new_responses) == (6, 0)
    judged = store.query(path, "select judge, count(distinct response_id) from verdicts group by 1 order by 1").rows
    assert judged == [("just-eval:gpt-4-0314", 6), ("just-eval:gpt-5", 6)]


def test_a_thousand_real_answers_keep_a_verdict_each(path, shared_dir):
    outputs = json.loads((shared_dir / "just_eval" / "outputs" / "Llama-2-7b-chat-hf.json").read_text())
    assert len(outputs) == 1000
    for split, part in (("multi", outputs[:800]), ("safety", outputs[800:])):
        items = [
            item(0, verdict(1 + n % 5, 1 + n % 3))
            | {"id": one["id"], "input": one["instruction"], "output_cand": one["output"]}
            | {"prompt": Template("peer", TEXT).fill(one["instruction"], one["output"])}
            for n, one in enumerate(part)
        ]
        done = bring_in(path, items, f"{split}.json")
        assert (done.read, done.added.total()) == (len(part), len(part))
    sql = "select sum(n), sum(n * mean) / sum(n) from score_means where metric = 'helpfulness'"
    assert store.query(path, sql).rows == [(2000, pytest.approx(3.0, abs=1e-4))]  # both readings
    unjudged = "select count(*) from responses where response_id not in (select response_id from verdicts)"
    assert store.query(path, unjudged).rows == [(0,)]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Files in the layout of just-eval's repository: two systems by one judge, a part of one by the next."""
    folder = tmp_path / "repository" / "leaderboard" / "eval_results"
    (folder / "gpt-4").mkdir(parents=True)
    (folder / "gpt-4-turbo" / "gpt-3.5-turbo-0301").mkdir(parents=True)
    for name in ("first", "second"):
        file = folder / "gpt-4" / f"{name}.score_multi.gpt-4.json"
        file.write_text(json.dumps([item(i, verdict(5, 4), generator=name, output=name) for i in range(3)]))
    newer = {"eval_config": {"mode": "score_multi", "gpt": "gpt-4-1106-preview", "max_words": -1}}
    for start in (0, 2):
        items = [{**item(i, verdict(3, 3), generator="first", output="first"), **newer} for i in (start, start + 1)]
        part = folder / "gpt-4-turbo" / "gpt-3.5-turbo-0301" / f"first.score_multi.{start}-{start + 2}.json"
        part.write_text(json.dumps(items))
    return tmp_path / "repository"


def test_published_verdicts_come_from_a_clone(repository: Path, tmp_path: Path) -> None:
    path = tmp_path / "t.duckdb"
    names = [name for name, _ in pull_verdicts(path, repository)]
    assert len(names) == 4
    sql = "select judge, count(*), count(distinct model) from verdicts join responses using (response_id) group by 1"
    assert sorted(store.query(path, sql).rows) == [
        ("just-eval:gpt-4-0314", 6, 2),
        ("just-eval:gpt-4-1106-preview", 4, 1),
    ]
    made = draw_sample(path, "ANCHORS", Selection(judge="just-eval:gpt-4-0314"), per_cell=2, seed=1)
    assert {(row["model"], row["method"], row["answers"], row["drawn"]) for row in made.dicts()} == {
        ("first", "imported", 3, 2),
        ("second", "imported", 3, 2),
    }
    with pytest.raises(InputError, match="holds no verdicts"):
        list(pull_verdicts(path, tmp_path))


def test_published_verdicts_are_fetched_with_git_and_kept(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*arguments: str) -> str:
        author = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
        done = subprocess.run(
            ["git", "-C", str(repository), *author, *arguments], capture_output=True, check=True, text=True
        )
        return done.stdout.strip()

    (repository / "outputs").mkdir()
    (repository / "outputs" / "large.json").write_text("[]")
    for step in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "files"]):
        git(*step)
    commit = git("rev-parse", "HEAD")
    (repository / "leaderboard" / "eval_results" / "gpt-4" / "third.score_multi.gpt-4.json").write_text("later")
    git("add", ".")
    git("commit", "--quiet", "--message", "more")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(just_eval_verdicts, "REPOSITORY", repository.as_uri())
    monkeypatch.setattr(just_eval_verdicts, "COMMIT", commit)
    real = subprocess.run

    def stopped(command: list[str], **how: Any) -> subprocess.CompletedProcess[str]:
        done = real(command, **how)
        if "checkout" in command:  # killed while files appear
            (file,) = Path(command[2]).glob("leaderboard/eval_results/gpt-4/first.score_multi*")
            file.unlink()
            raise KeyboardInterrupt
        return done

    monkeypatch.setattr(subprocess, "run", stopped)
    with pytest.raises(KeyboardInterrupt):
        list(pull_verdicts(tmp_path / "t.duckdb"))
    monkeypatch.setattr(subprocess, "run", real)
    pulled = [(name, done.read) for name, done in pull_verdicts(tmp_path / "t.duckdb")]
    assert [read for _, read in pulled] == [3, 3, 2, 2]
    assert [path.name for path in (tmp_path / "cache").glob("*/*/*") if path.name != ".git"] == ["leaderboard"]
    shutil.rmtree(repository)
    assert [(name, done.read) for name, done in pull_verdicts(tmp_path / "t.duckdb")] == pulled
    monkeypatch.setattr(just_eval_verdicts, "COMMIT", "0" * 40)
    with pytest.raises(HubError, match=r"git fetch: .*give --from CLONE"):
        list(pull_verdicts(tmp_path / "t.duckdb"))
