"""Query files in every accepted form, what is refused and with which error, and stratified samples."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icl_local import prompting
from icl_local.exceptions import ConfigError, InputError, UnknownName
from icl_local.prompting import queries
from icl_local.prompting.queries import Query


def item(number: object, **fields: Any) -> dict[str, Any]:
    return {"id": number, "instruction": f"Question {number}?", **fields}


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


ITEMS = [item(0, task=["coding"], topic=["stem"]), item("a-1", category="safety", task=[]), item(2)]


FORMS = {
    "json lines": "\n".join(map(json.dumps, ITEMS)),
    "json lines, blank lines and spaces": "\n\n" + " \n".join(map(json.dumps, ITEMS)) + "\n\n",
    "json list": json.dumps(ITEMS),
    "indented list": json.dumps(ITEMS, indent=2),
    "data": json.dumps({"data": ITEMS}),
    "data, laid out": json.dumps({"version": 1, "about": {"data": []}, "data": ITEMS}, indent=2),
    "one object a line in a list": "[\n" + ",\n".join(map(json.dumps, ITEMS)) + "\n]",
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("encode", ["utf-8", "utf-8-sig", "crlf"])
def test_every_form_gives_the_same_queries(tmp_path: Path, form: str, encode: str) -> None:
    text = FORMS[form].replace("\n", "\r\n") if encode == "crlf" else FORMS[form]
    path = write(tmp_path / "mine.json", text.encode("utf-8-sig" if encode == "utf-8-sig" else "utf-8"))
    found = queries.load_file(path, language="en")
    assert [(q.query_id, q.split, q.task, q.topic) for q in found.queries] == [
        ("0", "multi", ("coding",), ("stem",)),
        ("a-1", "safety", (), None),
        ("2", "multi", None, None),
    ]
    assert found.dataset == "mine"
    assert found.row()["source"] == "mine.json"


def test_a_file_without_ids_gets_them_from_its_texts(tmp_path: Path) -> None:
    texts = ["One?", "Two?", "Three?"]
    rows = [json.dumps({"instruction": text}) for text in texts]
    ids = {
        q.instruction: q.query_id
        for q in queries.load_file(write(tmp_path / "a.jsonl", "\n".join(rows)), language="en").queries
    }
    moved = queries.load_file(write(tmp_path / "b.jsonl", "\n".join([rows[2], *rows[:1]])), language="es").queries
    assert [q.query_id for q in moved] == [ids["Three?"], ids["One?"]]
    assert len(set(ids.values())) == 3
    with pytest.raises(InputError, match=r":3: the same instruction is already at .*:1; remove one, or give"):
        queries.load_file(write(tmp_path / "c.jsonl", "\n".join([*rows[:2], rows[0]])), language="en")


def test_a_row_has_lists_and_null_where_the_task_is_unknown(tmp_path: Path) -> None:
    found = queries.load_file(write(tmp_path / "q.json", FORMS["json list"]), language="en")
    assert [q.row()["task"] for q in found.queries] == [("coding",), (), None]
    assert len({q.key for q in found.queries}) == 3


def test_text_is_kept_verbatim(tmp_path: Path) -> None:
    text = "  ```x```\u2028 no line break here\t\n"
    path = write(tmp_path / "q.jsonl", json.dumps(item(1) | {"instruction": text}, ensure_ascii=False) + "\n")
    assert queries.load_file(path, language="en").queries[0].instruction == text


BROKEN = {
    "cut line": ('{"id": 1, "instruction": "x"}\n{"id": 2, "instr\n{"id": 3, "instruction": "x"}\n', ":2: broken JSON"),
    "unclosed object": ('{"id": 1, "instruction": "x"}\n{"id": 2, "instruction": "x"\n{"id": 3}', ":2: broken JSON"),
    "unclosed first object": ('{"id": 1, "instruction": "x"\n{"id": 2, "instruction": "x"}\n', ":1: broken JSON"),
    "broken list": ('[\n{"id": 1, "instruction": "x"},\n{"id": 2,, }\n]', ":3: broken JSON"),
    "no JSON": ("id,instruction\n1,x\n", ":1: broken JSON"),
    "scalar": ("12", ":1: broken JSON: neither a list"),
    "object without data": ('{\n"a": 1\n}', ":1: broken JSON: neither a list"),
    "list in a line": ('{"id": 1, "instruction": "x"}\n[1]\n', ":2: holds list"),
    "text in a list": ('[\n{"id": 1, "instruction": "x"},\n"y"]', ":3, item 2: holds str"),
    "no instruction": ('{"id": 1, "instruction": "x"}\n{"id": 2}\n', ":2: the field `instruction` is missing"),
    "number for text": ('{"id": 1, "instruction": 7}\n', ":1: the field `instruction` is not a text"),
    "blank instruction": ('{"id": 1, "instruction": " \\n"}\n', ":1: the instruction is empty"),
    "no id": ('[{"id": 1, "instruction": "x"},\n {"instruction": "y"}]', ":2, item 2: has no id"),
    "odd id": ('{"id": 1.5, "instruction": "x"}\n', ":1: has the id 1.5"),
    "id twice": (
        '{"id": 1, "instruction": "x"}\n\n{"id": "1", "instruction": "y"}\n',
        ":3: id '1' is already at ",
    ),
    "id twice on a line": (
        '[{"id": 1, "instruction": "x"}, {"id": 1, "instruction": "y"}]',
        ":1, item 2: id '1' is already at ",
    ),
    "NUL": ('{"id": 1, "instruction": "x\\u0000"}\n', ":1: `instruction` holds a NUL"),
    "half a pair": ('{"id": 1, "instruction": "x\\ud83d"}\n', ":1: `instruction` holds a NUL or half"),
    "task of numbers": ('{"id": 1, "instruction": "x", "task": [1]}\n', ":1: `task` must be a list of texts"),
    "nothing": ("\n", "holds no queries"),
    "an empty list": ("[]", "holds no queries"),
    "deep": ("[" * 100_000, "nested too deeply"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_bad_input_is_refused_with_file_and_line(tmp_path: Path, case: str) -> None:
    text, message = BROKEN[case]
    path = write(tmp_path / "bad.jsonl", text)
    with pytest.raises(InputError) as refused:
        queries.load_file(path, language="en")
    assert str(refused.value).startswith(str(path))
    assert message in str(refused.value)


class TestLanguages:
    def test_items_without_one_take_the_option(self, tmp_path: Path) -> None:
        path = write(tmp_path / "q.json", FORMS["json list"])
        assert {q.language for q in queries.load_file(path, language="es").queries} == {"es"}
        assert {q.language for q in queries.load_file(path, untagged="eu").queries} == {"eu"}
        with pytest.raises(InputError, match=r"q\.json:1, item 1: names no language; give --queries LANGUAGE=FILE"):
            queries.load_file(path)

    def test_english_queries_never_pass_for_spanish(self, tmp_path: Path) -> None:
        path = write(tmp_path / "q.json", json.dumps([item(1, language="en"), item(2, language="fr")]))
        with pytest.raises(InputError, match=r"holds no queries in 'es' \(only en, fr\)"):
            queries.load_file(path, language="es")

    def test_a_mixed_file_gives_the_wanted_language_or_all(self, tmp_path: Path) -> None:
        path = write(tmp_path / "q.json", json.dumps([item(1, language="en"), item(1, language="es")]))
        assert [q.language for q in queries.load_file(path, language="es").queries] == ["es"]
        assert [q.language for q in queries.load_file(path).queries] == ["en", "es"]

    def test_files_of_one_set_in_several_languages_share_its_name(self, tmp_path: Path) -> None:
        for name, language in (("set.en.jsonl", "en"), ("set-es.jsonl", "es"), ("set_fr.jsonl", "fr")):
            path = write(tmp_path / name, json.dumps(item(1)))
            assert queries.load_file(path, language=language).dataset == "set"
        assert queries.load_file(path, language="fr", dataset="other").dataset == "other"


class TestJustEval:
    def test_is_known_by_ids_and_sources_whatever_the_file(self, tmp_path: Path) -> None:
        rows = [
            item(7, source_id="alpaca_eval-7"),
            item(719, source_id="lima-299"),
            item(999, source_id="MaliciousInstruct-99"),
        ]
        assert queries.load_file(write(tmp_path / "x.json", json.dumps(rows)), language="fr").dataset == "just-eval"
        rows[0]["source_id"] = "lima-7"
        assert queries.load_file(write(tmp_path / "x.json", json.dumps(rows)), language="fr").dataset == "x"

    def test_the_real_file(self, shared_dir: Path) -> None:
        found = queries.load_file(shared_dir / "just_eval" / "queries.en.jsonl", language="en")
        assert found.dataset == "just-eval"
        assert Counter(q.split for q in found.queries) == {"multi": 800, "safety": 200}
        assert all(q.task == () for q in found.queries if q.split == "safety")
        assert sum("coding" in (q.task or ()) for q in found.queries) == 66
        chosen = queries.sample(found.queries, 50, seed=3)
        assert Counter(q.split for q in chosen) == {"multi": 40, "safety": 10}

    def test_the_samples_are_not_taken_from_it(self, shared_dir: Path) -> None:
        found = queries.load_file(shared_dir / "just_eval" / "queries.en.jsonl", language="en")
        theirs = {q.instruction.lower() for q in found.queries}
        assert not [q for q in queries.samples("en").queries if q.instruction.lower() in theirs]


class TestSamples:
    def test_twelve_in_each_language_with_the_same_ids_and_labels(self) -> None:
        sets = {code: queries.samples(code) for code in prompting.languages()}
        labels = {code: [(q.query_id, q.split, q.task, q.topic) for q in found.queries] for code, found in sets.items()}
        assert labels["en"] == labels["es"] == labels["eu"] == labels["fr"]
        assert {found.dataset for found in sets.values()} == {"samples"}
        assert Counter(q.split for q in sets["en"].queries) == {"multi": 8, "safety": 4}
        assert [q.task for q in sets["fr"].queries].count(("coding",)) == 1
        assert len({q.instruction for found in sets.values() for q in found.queries}) == 48

    def test_an_unknown_language_names_the_known(self) -> None:
        with pytest.raises(UnknownName, match="no sample queries in 'pt', only in en, es, eu, fr"):
            queries.samples("pt")

    def test_a_folder_adds_a_language(self, tmp_path: Path) -> None:
        (tmp_path / "samples").mkdir()
        write(tmp_path / "samples" / "pt.jsonl", json.dumps(item("sample-01") | {"instruction": "Olá?"}))
        found = queries.samples("pt", overlay=tmp_path)
        assert (found.dataset, [q.instruction for q in found.queries]) == ("samples", ["Olá?"])


def some_queries(language: str = "en", *, n: int = 60) -> list[Query]:
    tasks = [("coding",), ("writing", "coding"), ("math",), ("info-seek",)]
    return [
        Query(
            "d",
            str(i),
            language,
            f"{language} {i}",
            "safety" if i % 6 == 5 else "multi",
            () if i % 6 == 5 else tasks[i % 4],
        )
        for i in range(n)
    ]


class TestSample:
    def test_is_in_proportion_over_split_and_task(self) -> None:
        chosen = queries.sample(some_queries(), 30, seed=1)
        assert Counter(q.split for q in chosen) == {"multi": 25, "safety": 5}
        whole = Counter(q.task[0] for q in some_queries() if q.task)
        drawn = Counter(q.task[0] for q in chosen if q.task)
        assert all(abs(drawn[task] - whole[task] / 2) < 1 for task in whole)

    def test_languages_one_at_a_time_or_together_give_the_same_ids(self) -> None:
        ids = [q.query_id for q in queries.sample(some_queries("en"), 9, seed=5)]
        assert [q.query_id for q in queries.sample(some_queries("es"), 9, seed=5)] == ids
        both = queries.sample([*some_queries("en"), *some_queries("es")], 9, seed=5)
        assert [(q.language, q.query_id) for q in both] == [*(("en", i) for i in ids), *(("es", i) for i in ids)]

    def test_only_ids_that_every_language_has_are_drawn(self) -> None:
        both = queries.sample([*some_queries("en"), *some_queries("es", n=12)], 12, seed=0)
        assert {q.query_id for q in both} == {str(i) for i in range(12)}

    def test_the_order_of_the_file_and_other_seeds(self) -> None:
        whole = some_queries()
        chosen = queries.sample(whole, 10, seed=0)
        assert chosen == [q for q in whole if q in chosen]
        assert {q.query_id for q in queries.sample(whole[::-1], 10, seed=0)} == {q.query_id for q in chosen}
        assert {q.query_id for q in queries.sample(whole, 10, seed=1)} != {q.query_id for q in chosen}

    def test_nothing_is_no_sample(self) -> None:
        with pytest.raises(ConfigError, match="at least 1 query, not 0"):
            queries.sample(some_queries(), 0)

    @given(
        st.lists(
            st.tuples(st.sampled_from(["multi", "safety"]), st.sampled_from(["", "a", "b", "c"])),
            min_size=1,
            max_size=40,
        ),
        st.integers(1, 50),
        st.integers(0, 3),
    )
    @settings(max_examples=150, deadline=None)
    def test_has_n_queries_and_every_split(self, strata: list[tuple[str, str]], n: int, seed: int) -> None:
        whole = [Query("d", str(i), "en", "x", split, (task,)) for i, (split, task) in enumerate(strata)]
        chosen = queries.sample(whole, n, seed)
        assert len(chosen) == min(n, len(whole))
        splits = {q.split for q in whole}
        assert {q.split for q in chosen} == splits or n < len(splits)
        for split in splits:
            share = n * sum(q.split == split for q in whole) / len(whole)
            assert n >= len(whole) or abs(sum(q.split == split for q in chosen) - share) <= 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,instruction\n1,a,b\n", "q.csv:2: has 3 fields where the header has 2"),
        ('id,instruction\n1,"a\n', "q.csv:2: broken table"),
        ('id,instruction,tags\n1,a,"[""x"\n', "q.csv:2: a field begins like a JSON list but is not one"),
        ("id,instruction,instruction\n1,a,b\n", "q.csv:1: the header has 'instruction' twice"),
        ("id,question\n1,a\n", "`instruction` is missing; it has id, question; .* --map instruction=COLUMN"),
        ('id,instruction,choices,answer\n1,a,"[""x"", ""y""]",C\n', "q.csv:2: the answer 'C' is none of the 2 choices"),
        ('id,instruction,choices\n1,a,"[""x"", ""x""]"\n', "q.csv:2: `choices` needs two or more texts, all different"),
        ('id,instruction,checks\n1,a,"[{""id"": ""regex"", ""pattern"": 5}]"\n', "q.csv:2: .* a text `pattern`"),
        ('id,instruction,checks\n1,a,"[{""id"": ""no_comma""}]"\n', "q.csv:2: unknown instruction"),
    ],
)
def test_a_bad_table_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        queries.load_file(write(tmp_path / "q.csv", text), language="en")


def test_a_text_of_a_table_may_begin_with_a_bracket(tmp_path: Path) -> None:
    text = 'id, instruction,tags,,\n1,[INST] Hi,"[""x"", ""y""]",,\n2,[1] Why?,[hello],,\n'
    one, other = queries.load_file(write(tmp_path / "q.csv", text), language="en").queries
    assert (one.instruction, one.tags, other.instruction, other.tags) == (
        "[INST] Hi", ("x", "y"), "[1] Why?", ("[hello]",),
    )  # fmt: skip


def test_a_column_that_is_missing_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    path = write(tmp_path / "q.jsonl", json.dumps({"id": 1, "question": {"text": "?"}}))
    assert (
        queries.load_file(path, language="en", columns={"instruction": "question.text"}).queries[0].instruction == "?"
    )
    with pytest.raises(InputError, match=r"q.jsonl:1: has no column 'text'; it has id, question"):
        queries.load_file(path, language="en", columns={"instruction": "text"})
    with pytest.raises(UnknownName, match="did you mean reference"):
        queries.load_file(path, language="en", columns={"referenc": "text"})


def test_ifeval_files_are_read_as_checks(tmp_path: Path) -> None:
    item = {"key": 1, "prompt": "No commas.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}
    path = write(tmp_path / "q.jsonl", json.dumps(item))
    (found,) = queries.load_file(path, language="en", columns={"id": "key", "instruction": "prompt"}).queries
    assert found.expected == {"checks": [{"id": "punctuation:no_comma"}]}


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ([None], None),
        ([{}, {}], "`kwargs` must be a list of 1 object"),
        (["x"], "`kwargs` must be a list of 1 object"),
    ],
)
def test_the_parameters_of_ifeval_fit_its_instructions(tmp_path: Path, kwargs: list[Any], message: str | None) -> None:
    item = {"instruction": "No commas.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": kwargs}
    path = write(tmp_path / "q.jsonl", json.dumps(item))
    if message is None:
        (found,) = queries.load_file(path, language="en").queries
        assert found.expected == {"checks": [{"id": "punctuation:no_comma"}]}
    else:
        with pytest.raises(InputError, match=r"q\.jsonl:1: " + message):
            queries.load_file(path, language="en")
