"""Other tools' files in and out, databases merged by key, one query shown with its answers."""

from __future__ import annotations

import csv
import json
import shutil
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from icl_local import answers, exchange, export, merge, queries, store, upkeep
from icl_local.cli import icl
from icl_local.errors import ConfigError, InputError, StoreError
from icl_local.identity import key_of
from icl_local.json_items import Item
from icl_local.queries import Query, QuerySet
from icl_local.store import Store

LOOP = "Round and round we go, " * 12
CODE = "Here:\n```python\nfor i in range(3):\n    print(i)\n```\n"


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database without rows, made once: tests copy it."""
    path = tmp_path_factory.mktemp("empty") / "empty.duckdb"
    Store(path).close()
    return path


@pytest.fixture
def new_database(empty_database: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Makes a database of that name."""

    def make(name: str) -> Path:
        return Path(shutil.copy(empty_database, tmp_path / f"{name}.duckdb"))

    return make


@pytest.fixture
def db(new_database: Callable[[str], Path]) -> Path:
    return new_database("mine")


def output(number: object, text: str = "Fine.", **fields: Any) -> dict[str, Any]:
    return {"id": number, "instruction": f"Question {number}?", "output": text, "generator": "m", **fields}


def items(*data: dict[str, Any]) -> list[Item]:
    return [Item("outputs.json", line, one) for line, one in enumerate(data, start=1)]


def bring_in(db: Path, *data: dict[str, Any], source: str = "outputs.json", **options: Any) -> exchange.Imported:
    with Store(db) as target:
        return exchange.import_outputs(target, items(*data), source=source, **options)


def rows(db: Path, columns: str, order: str = "all") -> list[tuple[Any, ...]]:
    return store.query(db, f"select {columns} from responses order by {order}").rows


def known(*texts: str, **fields: Any) -> QuerySet:
    asked = [Query("set", str(i), "en", text, "multi", **fields) for i, text in enumerate(texts)]
    return QuerySet("set", "set.jsonl", None, tuple(asked))


class TestImport:
    def test_gives_other_peoples_texts_the_same_error_table(self, db: Path) -> None:
        asked = known(*(f"Question {i}?" for i in range(4)), task=("info-seek",))
        outputs = [output(0, LOOP), output(1, CODE), output(2), output(3), output("unknown", CODE)]
        assert bring_in(db, *outputs, known=asked) == exchange.Imported(read=5, added=5, unmatched=1)
        found = store.query(db, "select error, n_errors, n from error_rates where model = 'm' order by error").rows
        assert found == [("infinite_loop", 1, 5), ("infinite_loop_literal", 1, 5), ("unintended_code", 1, 4)]

    def test_a_text_is_stored_as_it_came(self, db: Path) -> None:
        text = "  ```\n# Query: [bold]x[/bold] \x1b[31m\u202e \n```"
        bring_in(db, output(0, text))
        assert rows(db, "text, raw_text, finish_reason, prompt_tokens") == [(text, text, "imported", None)]

    def test_what_no_database_keeps_is_replaced(self, db: Path) -> None:
        bring_in(db, output(0, "a\0b \ud800 c"))
        assert rows(db, "text") == [("a\ufffdb \ufffd c",)]

    @pytest.mark.parametrize(
        ("generator", "model"),
        [
            ("just_results_aligned//Llama-2-7b-chat-hf.json", "Llama-2-7b-chat-hf"),
            ("meta-llama/Llama-2-7b", "Llama-2-7b"),
            ("vicuna-7b-v1.5", "vicuna-7b-v1.5"),
            ("Yi-6B-Chat.p=1.0.t=0.0", "Yi-6B-Chat.p=1.0.t=0.0"),
            ("out/tiny.gguf", "tiny"),
            ("folder/", "folder"),
        ],
    )
    def test_the_model_is_the_generators_last_part_without_suffix(self, generator: str, model: str) -> None:
        assert exchange._label(generator) == model

    def test_options_say_model_method_and_language(self, db: Path) -> None:
        bring_in(db, output(0), output(1, language="fr"))
        bring_in(db, output(2, generator="x", language="fr"), model="Mine 1B", method="urial", language="es")
        assert rows(db, "model, method, language, variant, quantization, query_id", "query_id") == [
            ("m", "imported", "en", "imported", "none", "0"),
            ("m", "imported", "fr", "imported", "none", "1"),
            ("Mine 1B", "urial", "es", "imported", "none", "2"),
        ]

    def test_twice_is_once(self, db: Path) -> None:
        assert bring_in(db, output(0), output(1)).added == 2
        assert bring_in(db, output(0), output(1), output(1)).added == 0
        assert bring_in(db, output(0), output(1), output(2)).added == 1
        assert len(rows(db, "response_id")) == 3
        assert store.query(db, "select count(*) from raw.runs").rows == [(2,)]

    def test_a_query_set_given_later_tells_the_tasks_and_adds_no_rows(self, db: Path) -> None:
        asked = known("other", "Question 0?", task=("coding",))
        assert bring_in(db, output(0, CODE)).unmatched == 1
        assert bring_in(db, output(0, CODE, generator="n")).unmatched == 1
        assert bring_in(db, output(0, CODE), known=asked) == exchange.Imported(read=1, added=0, unmatched=0)
        assert rows(db, "model, task, query_id") == [("m", ["coding"], "0"), ("n", ["coding"], "0")]
        assert store.query(db, "select count(*) from raw.queries").rows == [(1,)]

    def test_queries_are_found_by_text_and_the_id_only_breaks_ties(self, db: Path) -> None:
        asked = known("one", "twice", "two", "twice", "twice")
        data = [
            output(3, "a", instruction="one"),
            output(4, "b", instruction="twice"),
            output(900, "c", instruction="twice"),
            output(901, "d", instruction="twice"),
            output(0, "e", instruction="Two"),
        ]
        assert bring_in(db, *data, known=asked).unmatched == 1
        assert rows(db, "text, query_id, dataset", "text") == [
            ("a", "0", "set"),
            ("b", "4", "set"),
            ("c", "1", "set"),
            ("d", "3", "set"),
            ("e", "0", "imported"),
        ]

    def test_the_databases_own_queries_are_known(self, db: Path) -> None:
        asked = queries.samples("es")
        with Store(db) as target:
            target.put([("queries", query.row()) for query in asked.queries])
        coding = next(query for query in asked.queries if query.task == ("coding",))
        same = output(1, CODE, instruction=coding.instruction)
        assert bring_in(db, same, language="es").unmatched == 0
        assert bring_in(db, same, language="en").unmatched == 1
        assert rows(db, "language, query_id, dataset, task", "language") == [
            ("en", "1", "imported", None),
            ("es", coding.query_id, "samples", ["coding"]),
        ]

    def test_items_without_ids_get_one_from_their_text(self, db: Path) -> None:
        bare = {"instruction": "x", "output": "y", "generator": "m"}
        bring_in(db, bare, {**bare, "instruction": "z"})
        assert [len(query_id) for (query_id,) in rows(db, "query_id")] == [12, 12]

    def test_safety_items_are_told_from_others(self, db: Path) -> None:
        bring_in(db, output(0, datasplit="just_red"), output(1, category="safety"), output(2, datasplit="just_eval"))
        assert rows(db, "query_id, split, dataset, task", "query_id") == [
            ("0", "safety", "imported:just_red", None),
            ("1", "safety", "imported", None),
            ("2", "multi", "imported:just_eval", None),
        ]

    def test_one_output_in_a_list_is_a_text(self, db: Path) -> None:
        bring_in(db, output(0) | {"output": ["listed"]})
        assert rows(db, "text") == [("listed",)]

    def test_a_bad_item_is_told_and_nothing_is_stored(self, db: Path) -> None:
        whole = {"id": 1, "instruction": "x", "output": "y", "generator": "m"}
        for changes, message in (
            ({"output": None}, ":2: the field `output` is missing"),
            ({"output": 3}, ":2: the field `output` is no text"),
            ({"output": ["a", "b"]}, ":2: the field `output` is no text"),
            ({"instruction": None}, ":2: the field `instruction` is missing"),
            ({"generator": None}, ":2: names no `generator`; say whose outputs"),
            ({"id": []}, r":2: has the id \[\]"),
        ):
            with Store(db) as target, pytest.raises(InputError, match=rf"^outputs\.json{message}"):
                exchange.import_outputs(target, items(output(0), whole | changes), source="outputs.json")
        assert rows(db, "*") == []

    def test_progress_is_told(self, db: Path) -> None:
        seen: list[tuple[int, int]] = []
        bring_in(db, *(output(i) for i in range(201)), on_progress=lambda done, total: seen.append((done, total)))
        assert seen == [(200, 201), (201, 201)]

    def test_the_peer_tools_real_files(self, db: Path, shared_dir: Path) -> None:
        folder = shared_dir / "just_eval"
        told = command("import", folder / "peer_outputs.example.json", "--queries", folder / "queries.en.jsonl", db=db)
        assert told.stderr == "6 outputs read, 6 new\n"
        told = command("import", folder / "peer_outputs_safety.example.json", db=db)
        assert "4 outputs read, 4 new" in told.stderr
        assert "give their set with --queries FILE" in told.stderr
        found = store.query(
            db, "select model, split, count(*), count(task) from responses group by all order by all"
        ).rows
        assert found == [("Llama-2-7b-chat-hf", "multi", 6, 6), ("test", "safety", 4, 0)]


def command(name: str, *arguments: object, db: Path) -> Result:
    result = CliRunner().invoke(icl, [name, *map(str, arguments), "--db", str(db)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


def exported(db: Path, out: Path, form: str, **chosen: str) -> Any:
    done = export.export_responses(db, out, form=form, chosen=export.Selection(**chosen))
    assert done.files == (out,)
    return json.loads(out.read_text(encoding="utf-8"))


class TestExport:
    def test_just_eval_comes_back_as_it_went(
        self, db: Path, new_database: Callable[[str], Path], tmp_path: Path
    ) -> None:
        asked = known("one", "two", task=("writing",), source_set="lima")
        bring_in(db, *(output(i, f"é {i}\u200d\x1b", instruction=t) for i, t in enumerate(["one", "two"])), known=asked)
        data = exported(db, tmp_path / "o.json", "just-eval")
        assert [(one["id"], one["dataset"], one["task"], one["output"]) for one in data] == [
            (0, "lima", ["writing"], "é 0\u200d\x1b"),
            (1, "lima", ["writing"], "é 1\u200d\x1b"),
        ]
        other = new_database("other")
        command("import", tmp_path / "o.json", db=other)
        assert rows(other, "model, text, task, split") == rows(db, "model, text, task, split")

    def test_alpaca_eval(self, db: Path, tmp_path: Path) -> None:
        bring_in(db, output(0, dataset="koala"))
        assert exported(db, tmp_path / "o.json", "alpaca-eval") == [
            {"instruction": "Question 0?", "output": "Fine.", "generator": "m", "dataset": "koala"}
        ]

    def test_a_file_holds_one_cell_and_a_folder_one_file_each(self, db: Path, tmp_path: Path) -> None:
        bring_in(db, output(0), output(1, generator="n/b"), output(2, language="es"))
        with pytest.raises(ConfigError, match=r"3 cells for one file .*choose with --model, --method, --language"):
            exported(db, tmp_path / "o.json", "just-eval")
        assert not (tmp_path / "o.json").exists()
        assert [one["id"] for one in exported(db, tmp_path / "o.json", "just-eval", language="es")] == [2]
        (tmp_path / "cells").mkdir()
        done = export.export_responses(db, tmp_path / "cells", form="just-eval", chosen=export.Selection())
        assert [file.name for file in done.files] == [
            "b.en.imported.imported.json",
            "m.en.imported.imported.json",
            "m.es.imported.imported.json",
        ]
        assert done.rows == 3

    def test_ids_are_in_the_order_of_numbers(self, db: Path, tmp_path: Path) -> None:
        bring_in(db, output(10), output(9), output("x"))
        assert [one["id"] for one in exported(db, tmp_path / "o.json", "just-eval")] == [9, 10, "x"]

    def test_a_generator_tells_own_cells_apart_and_responses_without_answer_are_left_out(
        self, db: Path, tmp_path: Path
    ) -> None:
        with Store(db) as target:
            target.put(own_cell("r1", "One.") + own_cell("r2", "", finish_reason="prompt_too_long"))
        done = export.export_responses(db, tmp_path / "o.json", form="just-eval", chosen=export.Selection())
        assert (done.rows, done.left_out) == (1, 1)
        (one,) = json.loads((tmp_path / "o.json").read_text())
        assert one["generator"] == "Tiny-1B.Q4_0.urial.en"

    def test_csv_cells_are_inert(self, db: Path, tmp_path: Path) -> None:
        hostile = ["=1+1", "+cmd|' /C calc'!A0", "-2", "@SUM(A1)", "\t=1", "a\u202eb\x1b[31m", 'say "hi",\nthen go']
        bring_in(db, *(output(i, text) for i, text in enumerate(hostile)))
        done = export.export_responses(db, tmp_path / "o.csv", form="csv", chosen=export.Selection())
        with (tmp_path / "o.csv").open(newline="", encoding="utf-8") as file:
            texts = [row["text"] for row in csv.DictReader(file)]
        assert done.rows == len(texts) == 7
        assert texts[:4] == ["'=1+1", "'+cmd|' /C calc'!A0", "'-2", "'@SUM(A1)"]
        assert texts[4].startswith("'")
        assert texts[5:] == ["a\\u202eb\\u001b[31m", 'say "hi",\nthen go']

    def test_parquet_keeps_types_and_texts(self, db: Path, tmp_path: Path) -> None:
        bring_in(db, output(0, "=1\u202e"), output(1, generator="o'n"), known=known("Question 0?", task=("math",)))
        for chosen, expected in (({"model": "m"}, [("=1\u202e", ["math"])]), ({"model": "o'n"}, [("Fine.", None)])):
            out = tmp_path / "o.parquet"
            assert export.export_responses(db, out, form="parquet", chosen=export.Selection(**chosen)).rows == 1
            found = store.query(db, "select text, task from read_parquet($1)", [str(out)], unsafe=True).rows
            assert found == expected

    def test_nothing_selected_is_told(self, db: Path, tmp_path: Path) -> None:
        for form in export.FORMATS:
            with pytest.raises(ConfigError, match="nothing like that is in the database"):
                export.export_responses(db, tmp_path / "o", form=form, chosen=export.Selection(model="none"))

    def test_files_are_their_owners_alone_and_whole(self, db: Path, tmp_path: Path) -> None:
        bring_in(db, output(0))
        for form in export.FORMATS:
            export.export_responses(db, tmp_path / form, form=form, chosen=export.Selection())
            assert stat.S_IMODE((tmp_path / form).stat().st_mode) == 0o600
        with pytest.raises(ConfigError, match=r"cannot write .*No such file"):
            export.export_responses(db, tmp_path / "no" / "o.json", form="just-eval", chosen=export.Selection())
        assert not list(tmp_path.glob(".*.part"))


def own_cell(response_id: str, text: str, **fields: Any) -> list[tuple[str, dict[str, Any]]]:
    """Rows of one response this program made."""
    query = Query("set", response_id, "en", f"Question {response_id}?", "multi", ("math",))
    head = "HEAD " * 200
    prompt = {"prompt_id": "p", "method": "urial", "language": "en", "head": head, "tail": " TAIL", "stops": ["#"]}
    response = {
        "response_id": response_id,
        "model_id": "t",
        "gguf_sha256": "g",
        "query_key": query.key,
        "prompt_id": "p",
        "settings_id": "s",
        "run_id": "run",
        "method": "urial",
        "language": "en",
        "text": text,
        "raw_text": text,
        "finish_reason": "stop",
        "new_tokens": 3,
        "created_at": store.now(),
        **fields,
    }
    file = {"gguf_sha256": "g", "file_name": "t.gguf", "source": "file", "bytes": 1, "quantization": "Q4_0"}
    return [
        ("models", {"model_id": "t", "label": "Tiny 1B", "variant": "base", "dpo": False}),
        ("gguf_files", file),
        ("settings", {"settings_id": "s", "backend": "llama.cpp", "max_tokens": 9}),
        ("prompts", prompt),
        ("runs", {"run_id": "run", "command": "run", "version": "0", "started_at": store.now()}),
        ("datasets", {"dataset": "set", "source": "set.jsonl"}),
        ("queries", query.row()),
        ("responses", response),
        ("critical_errors", error_row(response_id, "1.0")),
    ]


def error_row(response_id: str, version: str, **fields: Any) -> dict[str, Any]:
    return {"response_id": response_id, "error": "infinite_loop", "found": False, "detector_version": version, **fields}


def verdict(response_id: str, metric_scores: Mapping[str, float | None]) -> list[tuple[str, dict[str, Any]]]:
    """Rows of one judgment."""
    judgment_id = key_of(response=response_id, metrics=sorted(metric_scores))
    template = "Judge ${instruction} -> ${candidate}, $5"
    judgment = {
        "judgment_id": judgment_id,
        "attempt": 1,
        "response_id": response_id,
        "judge_id": "j",
        "template_sha256": "t",
        "repeat": 0,
        "status": "ok",
        "raw_reply": '{"raw": 1}',
        "created_at": store.now(),
    }
    scores = [
        {
            "judgment_id": judgment_id,
            "attempt": 1,
            "metric": metric,
            "score": score,
            "not_applicable": metric == "factuality" and score is None,
            "reason": f"because {metric}",
        }
        for metric, score in metric_scores.items()
    ]
    judge = {"judge_id": "j", "name": "openai:gpt", "backend": "openai", "model": "gpt"}
    metrics = list(metric_scores)
    return [
        ("judges", judge),
        ("judge_templates", {"template_sha256": "t", "name": "multi", "text": template, "metrics": metrics}),
        ("judgments", judgment),
        *(("scores", row) for row in scores),
    ]


class TestExportOfJudgments:
    SCORES: Mapping[str, float | None] = {"helpfulness": 4.0, "factuality": None, "depth": None, "language": 5.0}

    @pytest.fixture
    def judged(self, db: Path) -> Path:
        with Store(db) as target:
            target.put([*own_cell("r1", "One costs $1."), *verdict("r1", self.SCORES)])
        return db

    def test_just_eval_reads_scores_and_not_applicable_but_no_missing_ones(self, judged: Path, tmp_path: Path) -> None:
        done = export.export_judgments(judged, tmp_path / "j.json", form="just-eval", chosen=export.Selection())
        assert done.rows == 1
        (one,) = json.loads((tmp_path / "j.json").read_text())
        assert one["prompt"] == "Judge Question r1? -> One costs $1., $5"
        assert one["eval_config"] == {"mode": "score_multi", "gpt": "gpt", "max_words": -1}
        assert (one["id"], one["input"], one["output_cand"]) == ("r1", "Question r1?", "One costs $1.")
        assert one["generator_cand"] == "Tiny-1B.Q4_0.urial.en"
        assert one["result"] == '{"raw": 1}'
        assert {name: aspect["score"] for name, aspect in one["parsed_result"].items()} == {
            "helpfulness": "4",
            "factuality": "N/A",
            "language_consistency": "5",
        }

    def test_safety_goes_into_a_file_of_its_own(self, judged: Path, tmp_path: Path) -> None:
        with Store(judged) as target:
            target.put(verdict("r1", {"safety": 2.0}))
        with pytest.raises(ConfigError, match="2 cells for one file"):
            export.export_judgments(judged, tmp_path / "j.json", form="just-eval", chosen=export.Selection())
        done = export.export_judgments(judged, tmp_path, form="just-eval", chosen=export.Selection())
        assert sorted(file.name.split(".")[-2] for file in done.files) == ["score_multi", "score_safety"]

    def test_csv_has_a_row_an_aspect(self, judged: Path, tmp_path: Path) -> None:
        assert export.export_judgments(judged, tmp_path / "j.csv", form="csv", chosen=export.Selection()).rows == 4
        with (tmp_path / "j.csv").open(newline="") as file:
            assert {row["metric"]: row["score"] for row in csv.DictReader(file)}["depth"] == ""
        with pytest.raises(ConfigError, match="alpaca-eval has no form for scores"):
            export.export_judgments(judged, tmp_path / "j", form="alpaca-eval", chosen=export.Selection())


@pytest.fixture(scope="module")
def two_databases(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two databases with one response in common, one of each alone, and one whose text differs."""
    folder = tmp_path_factory.mktemp("merge")
    mine, other = (Path(shutil.copy(empty_database, folder / f"{name}.duckdb")) for name in "ab")
    with Store(mine) as target:
        target.put(own_cell("same", "Same.") + own_cell("differs", "Mine.") + own_cell("mine", "Only here."))
    with Store(other) as target:
        target.put(own_cell("same", "Same.") + own_cell("differs", LOOP) + own_cell("theirs", "Only there."))
        target.put(verdict("theirs", {"depth": 3.0}) + verdict("differs", {"depth": 1.0}))
        target.put([("critical_errors", error_row("differs", "9.0", found=True, unit="x"))])
    return folder


class TestMerge:
    @pytest.fixture
    def both(self, two_databases: Path, tmp_path: Path) -> tuple[Path, Path]:
        shutil.copytree(two_databases, tmp_path, dirs_exist_ok=True)
        return tmp_path / "a.duckdb", tmp_path / "b.duckdb"

    def test_rows_come_by_key_and_texts_that_differ_are_told(self, both: tuple[Path, Path]) -> None:
        mine, other = both
        with Store(mine) as target:
            done = merge.merge(target, other)
        assert done.differing == ("differs",)
        assert done.added["responses"] == done.added["queries"] == done.added["judgments"] == done.added["scores"] == 1
        assert "prompts" not in done.added
        assert rows(mine, "response_id, text", "response_id") == [
            ("differs", "Mine."),
            ("mine", "Only here."),
            ("same", "Same."),
            ("theirs", "Only there."),
        ]
        kept = "select found, detector_version from raw.critical_errors where response_id = 'differs'"
        assert store.query(mine, kept).rows == [(False, "1.0")]
        assert store.query(mine, "select response_id, score from scores").rows == [("theirs", 3.0)]
        assert upkeep.check(mine) == []
        with Store(mine) as target:
            assert merge.merge(target, other) == merge.Merged({}, ("differs",))
        before = rows(mine, "*")
        mine.unlink()  # the spool has them too
        assert rows(mine, "*") == before

    def test_a_spool_and_exported_tables_give_what_the_database_holds(
        self, both: tuple[Path, Path], new_database: Callable[[str], Path], tmp_path: Path
    ) -> None:
        _, other = both
        command("export", "--format", "parquet", "--what", "all", "-o", tmp_path / "tables", db=other)
        tables = ("responses", "queries", "critical_errors", "judgments", "scores", "prompts", "judges")
        sums = " union all ".join(f"select count(*), bit_xor(hash(t)) from raw.{table} as t" for table in tables)
        theirs = store.query(other, sums).rows
        assert [count for count, _ in theirs] == [3, 3, 3, 2, 2, 1, 1]
        for name, source in (("from-spool", store.spool_folder(other)), ("from-tables", tmp_path / "tables")):
            with Store(new_database(name)) as target:
                merge.merge(target, source)
                assert target.rows(sums).rows == theirs
        assert not list(tmp_path.glob(".merge-*"))

    def test_an_answer_replaces_an_error_and_never_the_reverse(self, new_database: Callable[[str], Path]) -> None:
        failed, done = new_database("failed"), new_database("done")
        with Store(failed) as target:
            target.put(own_cell("r", "", finish_reason="error"))
        with Store(done) as target:
            target.put(own_cell("r", "Answer."))
            assert merge.merge(target, failed).differing == ()
        with Store(failed) as target:
            assert merge.merge(target, done).differing == ()
        assert rows(failed, "text") == rows(done, "text") == [("Answer.",)]

    def test_what_was_forgotten_here_stays_so_and_there_is_no_matter(self, both: tuple[Path, Path]) -> None:
        mine, other = both
        with Store(mine) as target:
            merge.merge(target, other)
        upkeep.forget(mine, ["theirs"])
        upkeep.forget(other, ["same"])
        with Store(mine) as target:
            assert merge.merge(target, other).added == {}
        assert {response_id for (response_id,) in rows(mine, "response_id")} == {"differs", "mine", "same"}

    def test_what_cannot_be_merged_is_told(self, db: Path, tmp_path: Path) -> None:
        (tmp_path / "notes").mkdir()
        (tmp_path / "notes.duckdb").write_text("no database")
        for source, error, message in (
            (db, ConfigError, "is the database itself"),
            (tmp_path / "none", InputError, "there is no .*none to merge"),
            (tmp_path / "notes", InputError, "holds neither a spool"),
            (tmp_path / "notes.duckdb", StoreError, r"notes\.duckdb"),
        ):
            with Store(db) as target, pytest.raises(error, match=message):
                merge.merge(target, source)

    def test_the_command_lists_what_differs(self, both: tuple[Path, Path]) -> None:
        mine, other = both
        told = command("merge", other, db=mine)
        assert "1 responses differ" in told.stderr
        assert "Tiny 1B" in told.stdout


@pytest.fixture(scope="module")
def asked_once(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = Path(shutil.copy(empty_database, tmp_path_factory.mktemp("show") / "show.duckdb"))
    with Store(path) as target:
        target.put(own_cell("0", "Own answer \x1b[31m[red]."))
        target.put([("critical_errors", error_row("0", "9.0", found=True))])
    bring_in(path, output(0, "Their answer.", instruction="Another text"))
    return path


class TestShow:
    def test_prompt_and_answers_side_by_side(self, asked_once: Path) -> None:
        shown = command("show", "0", "--dataset", "set", db=asked_once).stdout
        assert "Question 0?" in shown
        assert "prompt · urial" in shown
        assert "Own answer \\u001b[31m[red]." in shown
        assert "stop · 3 tokens · infinite_loop" in shown
        assert "HEAD Question 0? TAIL" in " ".join(shown.replace("│", " ").split())
        assert "\x1b[31m" not in shown
        assert "Their answer." not in shown

    def test_the_whole_prompt_on_request(self, asked_once: Path) -> None:
        short = command("show", "0", "--model", "Tiny 1B", db=asked_once).stdout
        whole = command("show", "0", "--model", "Tiny 1B", "--full", db=asked_once).stdout
        assert "characters before; --full shows them" in short
        assert whole.count("HEAD") == 200

    def test_as_rows(self, asked_once: Path) -> None:
        data = json.loads(command("show", "0", "--format", "json", db=asked_once).stdout)
        assert [(one["dataset"], one["method"], one["text"][:5]) for one in data] == [
            ("imported", "imported", "Their"),
            ("set", "urial", "Own a"),
        ]

    def test_an_unknown_query_is_told(self, asked_once: Path) -> None:
        with pytest.raises(ConfigError, match="no query '7' like that"):
            answers.find(asked_once, "7")
        assert answers.find(asked_once, "0", dataset="set", method="none")[0].answers == ()
