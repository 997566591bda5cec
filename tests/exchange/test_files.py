"""Other tools' files in and out."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from icl_local import exchange, files, store
from icl_local.exceptions import ConfigError, InputError
from icl_local.exchange import every_eval_ever, export, imports
from icl_local.prompting import queries
from icl_local.store import Selection
from icl_local.store.database import Store
from icl_local.vocabulary import EXPORTS
from tests.exchange.rows import CODE, LOOP, bring_in, command, items, known, output, own_cell, rows, verdict


class TestImport:
    def test_gives_other_peoples_texts_the_same_error_table(self, db: Path) -> None:
        asked = known(*(f"Question {i}?" for i in range(4)), task=("info-seek",))
        outputs = [output(0, LOOP), output(1, CODE), output(2), output(3), output("unknown", CODE)]
        assert bring_in(db, *outputs, known=asked) == exchange.Imported(read=5, added=5, unmatched=1, assumed_english=1)
        found = store.query(
            db, "select error, sum(n_errors), sum(n) from error_rates where model = 'm' group by error order by error"
        ).rows
        assert found == [("infinite_loop", 1, 5), ("infinite_loop_literal", 1, 5), ("unintended_code", 1, 4)]

    def test_a_text_is_stored_as_it_came(self, db: Path) -> None:
        text = "  ```\n# Query: [bold]x[/bold] \x1b[31m\u202e \n```"
        bring_in(db, output(0, text))
        assert rows(db, "text, raw_text, finish_reason, prompt_tokens") == [(text, text, "imported", None)]

    def test_characters_that_databases_cannot_store_are_replaced(self, db: Path) -> None:
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
        assert imports._label(generator) == model

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

    def test_a_query_set_given_later_sets_the_tasks_and_adds_no_rows(self, db: Path) -> None:
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

    def test_safety_items_are_recognized(self, db: Path) -> None:
        bring_in(db, output(0, datasplit="just_red"), output(1, category="safety"), output(2, datasplit="just_eval"))
        assert rows(db, "query_id, split, dataset, task", "query_id") == [
            ("0", "safety", "imported:just_red", None),
            ("1", "safety", "imported", None),
            ("2", "multi", "imported:just_eval", None),
        ]

    def test_one_output_in_a_list_is_a_text(self, db: Path) -> None:
        bring_in(db, output(0) | {"output": ["listed"]})
        assert rows(db, "text") == [("listed",)]

    def test_a_bad_item_is_reported_and_nothing_is_stored(self, db: Path) -> None:
        whole = {"id": 1, "instruction": "x", "output": "y", "generator": "m"}
        for changes, message in (
            ({"output": None}, ":2: the field `output` is missing"),
            ({"output": 3}, ":2: the field `output` is not a text"),
            ({"output": ["a", "b"]}, ":2: the field `output` is not a text"),
            ({"instruction": None}, ":2: the field `instruction` is empty"),
            ({"generator": None}, ":2: names no `generator`; say whose outputs"),
            ({"id": []}, r":2: has the id \[\]"),
        ):
            with Store(db) as target, pytest.raises(InputError, match=rf"^outputs\.json{message}"):
                exchange.import_outputs(target, items(output(0), whole | changes), source="outputs.json")
        assert rows(db, "*") == []

    def test_the_peer_tools_real_files(self, db: Path, shared_dir: Path) -> None:
        folder = shared_dir / "just_eval"
        result = command(
            "import", folder / "peer_outputs.example.json", "--queries", folder / "queries.en.jsonl", db=db
        )
        assert result.stderr == "6 outputs read, 6 new\n"
        result = command("import", folder / "peer_outputs_safety.example.json", db=db)
        assert "4 outputs read, 4 new" in result.stderr
        assert "give their set with --queries FILE" in result.stderr
        found = store.query(
            db, "select model, split, count(*), count(task) from responses group by all order by all"
        ).rows
        assert found == [("Llama-2-7b-chat-hf", "multi", 6, 6), ("test", "safety", 4, 0)]


def exported(db: Path, out: Path, form: str, **chosen: str) -> Any:
    done = export.export_rows(db, out, form=form, chosen=Selection(**chosen))
    assert done.files == (out,)
    return json.loads(out.read_text(encoding="utf-8"))


class TestRoundTrip:
    """Every format, into a new database: each field comes back, or the export says that it does not."""

    FIELDS = "model, method, language, dpo, query_id, split, task, topic, instruction, text"
    VARIANTS: tuple[Mapping[str, Any], ...] = (
        {"model": "Tiny 1B", "method": "zero-shot"},
        {"model": "Tiny 1B", "method": "urial", "language": "es"},
        {"model": "Tiny 1B", "method": "urial", "language": "es", "dpo": True},
        {"model": "Tiny-1B", "method": "urial", "language": "es"},  # the same file name as one above
        {"model": "out/Tiny 1B.json", "method": "mine: \u00e9/x", "language": "eu"},
        {"generator": "peer/Llama-2.json"},
    )
    TEXTS: Mapping[object, str] = {
        7: "plain",
        "007": "",
        "\u0663": " \r\n\u2028=1+1\x1b[31m\u202e'\"\\",
        "a b.c": "${instruction} ```x",
    }

    @pytest.fixture(scope="class")
    @classmethod
    def made(cls, empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
        db = Path(shutil.copy(empty_database, tmp_path_factory.mktemp("full") / "mine.duckdb"))
        for place, variant in enumerate(cls.VARIANTS):
            data = [
                output(
                    number, text, category="safety" if number == 7 else "regular", task=["math"], topic=[], **variant
                )
                for number, text in cls.TEXTS.items()
            ]
            bring_in(db, *data, source=f"{place}.json")
        return db

    @pytest.fixture
    def full(self, made: Path, tmp_path: Path) -> Path:
        return Path(shutil.copytree(made.parent, tmp_path / "full")) / made.name

    @pytest.mark.parametrize("form", ["just-eval", "alpaca-eval"])
    def test_of_outputs(self, form: str, full: Path, new_database: Callable[[str], Path], tmp_path: Path) -> None:
        said = command("export", "--format", form, "-o", tmp_path / "out", db=full).stderr
        assert f"{form} carries no GGUF type, settings, query set, raw text or token counts" in said
        files = sorted((tmp_path / "out").iterdir())
        assert len(files) == len(self.VARIANTS)
        other = new_database("other")
        for file in files:
            assert "English" not in command("import", file, db=other).stderr
        assert rows(other, self.FIELDS) == rows(full, self.FIELDS)

    def test_of_every_row(self, full: Path, new_database: Callable[[str], Path], tmp_path: Path) -> None:
        said = command("export", "--format", "parquet", "--what", "all", "-o", tmp_path / "all", db=full).stderr
        assert "carries" not in said
        other = new_database("other")
        command("import", tmp_path / "all", db=other)
        assert rows(other, "*") == rows(full, "*")

    @pytest.mark.parametrize("form", sorted({*EXPORTS} - {"just-eval", "alpaca-eval"}))
    def test_a_format_that_does_not_come_back_says_so(self, form: str, full: Path, tmp_path: Path) -> None:
        out = tmp_path / f"out.{form}"
        said = command("export", "--format", form, "-o", out, db=full).stderr
        assert "`icl import` does not take it; `--format parquet --what all` keeps everything" in said
        file = out if out.is_file() else next(out.rglob("*.json"))
        with pytest.raises(InputError, match=re.escape(str(file))):
            command("import", file, db=full)

    @pytest.mark.parametrize("name", ["q.csv", "q.CSV", "q.tsv"])
    def test_a_table_of_outputs_is_refused_with_their_formats(self, name: str, db: Path, tmp_path: Path) -> None:
        (tmp_path / name).write_text("instruction,output\na,b\n")
        said = rf"{re.escape(name)}: outputs are read from JSON or JSON Lines \(docs/exchange\.md\)"
        with pytest.raises(InputError, match=said):
            command("import", tmp_path / name, "--model", "m", db=db)

    def test_of_judgments(self, db: Path, new_database: Callable[[str], Path], tmp_path: Path) -> None:
        for place, variant in enumerate(({"method": "urial"}, {"method": "urial", "language": "es", "dpo": True})):
            bring_in(db, output(0, model="Tiny 1B", **variant), source=f"{place}.json")
        with Store(db) as target:
            for place, (response_id,) in enumerate(rows(db, "response_id", "language")):
                reply = json.dumps({"helpfulness": {"reason": "r", "score": place + 2}}) if place else None
                (*context, (table, row)) = verdict(response_id, {"helpfulness": 3.0})
                target.put([*context, (table, {**row, "raw_reply": reply})])
        command("export", "--what", "judgments", "--format", "just-eval", "-o", tmp_path / "out", db=db)
        other, prompt = new_database("other"), 'Judge {} -> {} {{"helpfulness": {{"reason": "", "score": ""}}}}'
        for file in (tmp_path / "out").iterdir():
            (one,) = json.loads(file.read_text())
            heading = prompt.format(f"## Query:\n{one['input']}", f"## Output:\n{one['output_cand']}")
            file.write_text(json.dumps([one | {"prompt": heading}]))
            command("import", file, db=other)
        assert rows(other, self.FIELDS) == rows(db, self.FIELDS)
        found = "select language, score from scores join responses using (response_id)"
        assert store.query(other, found).rows == [("es", 3.0)]

    def test_an_assumed_language_is_said(self, db: Path, tmp_path: Path) -> None:
        file = tmp_path / "o.json"
        file.write_text(json.dumps([output(0), output(1, language="fr")]))
        assert "1 text names no language: taken as English" in " ".join(command("import", file, db=db).stderr.split())
        assert "English" not in command("import", file, "--lang", "es", db=db).stderr


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
        (one,) = exported(db, tmp_path / "o.json", "alpaca-eval")
        its_own = {"instruction": "Question 0?", "output": "Fine.", "generator": "m", "dataset": "koala"}
        assert one == one | its_own
        assert "input" not in one  # AlpacaEval adds it to the instruction; it ignores the other keys

    def test_a_file_holds_one_cell_and_a_folder_one_file_each(self, db: Path, tmp_path: Path) -> None:
        bring_in(db, output(0), output(1, generator="n/b"), output(2, language="es"))
        with pytest.raises(ConfigError, match=r"3 cells for one file .*choose with --model, --method, --lang"):
            exported(db, tmp_path / "o.json", "just-eval")
        assert not (tmp_path / "o.json").exists()
        assert [one["id"] for one in exported(db, tmp_path / "o.json", "just-eval", language="es")] == [2]
        (tmp_path / "cells").mkdir()
        done = export.export_rows(db, tmp_path / "cells", form="just-eval", chosen=Selection())
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
        done = export.export_rows(db, tmp_path / "o.json", form="just-eval", chosen=Selection())
        assert (done.rows, done.left_out) == (1, 1)
        (one,) = json.loads((tmp_path / "o.json").read_text())
        assert one["generator"] == "Tiny-1B.Q4_0.urial.en"

    def test_csv_cells_are_inert(self, db: Path, tmp_path: Path) -> None:
        hostile = ["=1+1", "+cmd|' /C calc'!A0", "-2", "@SUM(A1)", "\t=1", "a\u202eb\x1b[31m", 'say "hi",\nthen go']
        bring_in(db, *(output(i, text) for i, text in enumerate(hostile)))
        done = export.export_rows(db, tmp_path / "o.csv", form="csv", chosen=Selection())
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
            assert export.export_rows(db, out, form="parquet", chosen=Selection(**chosen)).rows == 1
            found = store.query(db, "select text, task from read_parquet($1)", [str(out)], unsafe=True).rows
            assert found == expected

    @pytest.mark.parametrize("form", ["csv", "parquet", "just-eval"])
    def test_a_database_is_never_replaced(self, db: Path, form: str) -> None:
        bring_in(db, output(0))
        before = db.read_bytes()
        with pytest.raises(ConfigError, match="is a database; choose another place with -o"):
            export.export_rows(db, db, form=form, chosen=Selection())
        with pytest.raises(ConfigError, match="is a database; choose another place with -o"):
            export.export_tables(db, db)
        assert db.read_bytes() == before

    def test_an_output_does_not_wait_for_a_pipe_of_its_name(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        files.write_result(tmp_path / "pipe", "written")
        assert stat.S_ISREG((tmp_path / "pipe").stat().st_mode)
        assert (tmp_path / "pipe").read_text() == "written"

    def test_a_folder_and_a_file_are_not_taken_for_each_other(self, db: Path, tmp_path: Path) -> None:
        bring_in(db, output(0))
        (tmp_path / "file").write_text("kept")
        for form in ("csv", "parquet"):
            for folder in (tmp_path, Path(".")):
                with pytest.raises(ConfigError, match=f"is a folder; name a file with -o for {form}"):
                    export.export_rows(db, folder, form=form, chosen=Selection())
        with pytest.raises(ConfigError, match=r"cannot write .*file: File exists; choose another place with -o"):
            export.export_rows(db, tmp_path / "file", form="just-eval", chosen=Selection())
        with pytest.raises(ConfigError, match=r"cannot write .*file: File exists; choose another place with -o"):
            export.export_tables(db, tmp_path / "file")
        with pytest.raises(ConfigError, match=r"cannot write .*file: Not a directory; choose another place with -o"):
            every_eval_ever.export_records(db, tmp_path / "file", chosen=Selection(), organization="us")
        assert (tmp_path / "file").read_text() == "kept"

    def test_nothing_selected_is_reported(self, db: Path, tmp_path: Path) -> None:
        for form in {*EXPORTS} - {"every-eval-ever"}:
            with pytest.raises(ConfigError, match="no model 'none' in this database"):
                export.export_rows(db, tmp_path / "o", form=form, chosen=Selection(model="none"))

    def test_a_file_stays_where_nothing_is_selected(self, db: Path, tmp_path: Path) -> None:
        bring_in(db, output(0))
        for form in ("csv", "parquet"):
            out = tmp_path / f"o.{form}"
            out.write_text("kept")
            with pytest.raises(ConfigError, match="nothing selected"):
                export.export_rows(db, out, what="judgments", form=form, chosen=Selection())
            assert out.read_text() == "kept"

    def test_files_are_their_owners_alone_and_whole(self, db: Path, tmp_path: Path) -> None:
        bring_in(db, output(0))
        for form in {*EXPORTS} - {"every-eval-ever"}:
            out = tmp_path / f"{form}.out"
            export.export_rows(db, out, form=form, chosen=Selection())
            assert stat.S_IMODE(out.stat().st_mode) == 0o600
            with pytest.raises(ConfigError, match=r"cannot write .*No such file"):
                export.export_rows(db, tmp_path / "no" / "o.json", form=form, chosen=Selection())
        assert not list(tmp_path.glob(".*.part"))


class TestExportOfJudgments:
    SCORES: Mapping[str, float | None] = {"helpfulness": 4.0, "factuality": None, "depth": None, "language": 5.0}

    @pytest.fixture
    def judged(self, db: Path) -> Path:
        with Store(db) as target:
            target.put([*own_cell("r1", "One costs $1."), *verdict("r1", self.SCORES)])
        return db

    def test_just_eval_reads_scores_and_not_applicable_but_no_missing_ones(self, judged: Path, tmp_path: Path) -> None:
        done = export.export_rows(judged, tmp_path / "j.json", what="judgments", form="just-eval", chosen=Selection())
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
            export.export_rows(judged, tmp_path / "j.json", what="judgments", form="just-eval", chosen=Selection())
        done = export.export_rows(judged, tmp_path, what="judgments", form="just-eval", chosen=Selection())
        assert sorted(file.name.split(".")[-2] for file in done.files) == ["score_multi", "score_safety"]

    def test_csv_has_a_row_an_aspect(self, judged: Path, tmp_path: Path) -> None:
        done = export.export_rows(judged, tmp_path / "j.csv", what="judgments", form="csv", chosen=Selection())
        assert done.rows == 4
        with (tmp_path / "j.csv").open(newline="") as file:
            assert {row["metric"]: row["score"] for row in csv.DictReader(file)}["depth"] == ""
        with pytest.raises(ConfigError, match="alpaca-eval has no form for scores"):
            export.export_rows(judged, tmp_path / "j", what="judgments", form="alpaca-eval", chosen=Selection())
