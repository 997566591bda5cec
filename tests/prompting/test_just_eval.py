"""Just-Eval's published sets: pinned by the first pull, paired with the English items, refused if they do not pair."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from icl_local import study
from icl_local.cli import main
from icl_local.exceptions import ConfigError, HubError, IclError, InputError
from icl_local.prompting import JsonItem, just_eval, queries
from icl_local.running import load_queries
from tests.fake_hub import FIRST, SECOND, FakeHub, serving

PAIRS = [json.loads(line) for line in (Path(__file__).parents[1] / "translation_pairs.jsonl").open(encoding="utf-8")]
ENGLISH_FILE, TRANSLATED_FILE = (just_eval.FILES[code].split("/", 2)[2] for code in ("en", "es"))


def english() -> list[dict[str, Any]]:
    """Forty queries with Just-Eval's fields, the last one a safety query."""
    found = [
        {"id": 760 + number, "instruction": pair["en"], "source_id": f"mt-{number}", "dataset": "mt",
         "category": "regular", "task": ["coding"], "topic": ["stem"], "difficulty": "hard"}
        for number, pair in enumerate(PAIRS)
    ]  # fmt: skip
    return [*found[:-1], {**found[-1], "category": "safety", "task": [], "topic": []}]


def spanish(*, ids: bool) -> list[dict[str, Any]]:
    return [({"id": 760 + n} if ids else {}) | {"instruction": pair["es"]} for n, pair in enumerate(PAIRS)]


def lines(items: Sequence[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(item) + "\n" for item in items).encode()


def items(found: Sequence[dict[str, Any]]) -> list[JsonItem]:
    return [JsonItem(f"file:{number}", data) for number, data in enumerate(found, 1)]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    monkeypatch.chdir(tmp_path)
    with serving(tmp_path, monkeypatch) as state:
        state.files = {
            (FIRST, ENGLISH_FILE): lines(english()),
            (FIRST, TRANSLATED_FILE): lines(spanish(ids=True)[::-1]),
            (SECOND, ENGLISH_FILE): lines(english()[1:]),
            (SECOND, TRANSLATED_FILE): lines(spanish(ids=True)[1:]),
        }
        yield state


def ran(*args: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(args))
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_pull_writes_a_file_a_language_that_pairs_up_with_english(fake: FakeHub) -> None:
    assert ran("data", "pull", "just-eval", "--lang", "en,es,eu") == 0
    assert Path("just-eval.en.jsonl").read_bytes() == fake.files[FIRST, ENGLISH_FILE]
    for language in ("es", "eu"):
        first, *_, last = queries.load_file(Path(f"just-eval.{language}.jsonl"), language=language).queries
        assert (first.dataset, first.query_id, first.task, first.instruction) == (
            "just-eval", "760", ("coding",), PAIRS[0]["es"])  # fmt: skip
        assert (last.query_id, last.split, last.task) == ("799", "safety", ())
    written = json.loads(Path("just-eval.es.jsonl").read_text().splitlines()[0])
    source = f"hf:Vicomtech/just-eval-instruct-es/{TRANSLATED_FILE}@{FIRST}"
    assert written["translation"] == {"from": "en", "source": source}


def test_a_later_pull_takes_the_commit_of_the_first(fake: FakeHub) -> None:
    assert ran("data", "pull", "just-eval", "--lang", "es") == 0
    fake.commits["main"] = SECOND
    assert ran("data", "pull", "just-eval", "--lang", "es") == 0
    assert just_eval.require("es").source.endswith(FIRST)


def test_other_bytes_than_those_of_the_first_pull_are_refused(fake: FakeHub) -> None:
    just_eval.fetch("es")
    pins = just_eval._pins_file()
    pins.write_text(pins.read_text().replace(just_eval.require("es").sha256, "0" * 64))
    for again in (just_eval.fetch, just_eval.require):
        with pytest.raises(HubError, match=r"is not the file of the first download; .* delete"):
            again("es")
    pins.write_text("{")
    with pytest.raises(HubError, match=r"just-eval\.json: cannot be read; delete it"):
        just_eval.fetch("es")


def test_what_is_cached_is_hashed_once_and_other_languages_are_not_published(
    fake: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    just_eval.fetch("en")
    hashed: list[Path] = []
    original = just_eval.sha256_file
    monkeypatch.setattr(just_eval, "sha256_file", lambda path: hashed.append(path) or original(path))
    assert just_eval.cached("en") is not None
    assert len(hashed) == 1
    with pytest.raises(ConfigError, match="just-eval is not published in 'de'"):
        just_eval.require("de")


def test_a_file_of_ones_own_stays(fake: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.jsonl").write_text("mine")
    assert ran("data", "pull", "just-eval", "--lang", "es", "--out", "mine.jsonl") == 1
    assert "mine.jsonl exists and is another file" in capsys.readouterr().err
    assert Path("mine.jsonl").read_text() == "mine"
    assert ran("data", "pull", "just-eval", "--lang", "en,es", "--out", "mine.jsonl") == 2


def test_the_list_says_what_is_here_and_how_to_get_the_rest(fake: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    just_eval.fetch("es")
    assert ran("data", "list", "--format", "csv") == 0
    listed = capsys.readouterr().out
    assert f"just-eval,es,40,1,hf:Vicomtech/just-eval-instruct-es/{TRANSLATED_FILE}@{FIRST}" in listed
    assert "just-eval,fr,,,not here; icl data pull just-eval --lang fr" in listed
    assert "just-eval,eu,,,not here; icl data pull just-eval --lang eu" in listed


def test_runs_and_studies_take_the_published_sets_by_name(fake: FakeHub) -> None:
    paper = study.load_study("paper")
    french = replace(paper, cells=tuple(one for one in paper.cells if one.language == "fr"))
    assert "icl data pull just-eval --lang fr" in str(french.query_sets()["fr"])
    fetched = french.query_sets(fetch=True)["fr"]
    assert not isinstance(fetched, IclError)
    assert len(fetched.queries) == 40
    (found,) = load_queries(["fr"], ["just-eval"])
    assert (found.dataset, found.queries[0].language) == ("just-eval", "fr")
    assert found.source.startswith("hf:Vicomtech/just-eval-instruct-fr/")
    with pytest.raises(ConfigError, match="not published in 'pt', only in en, es, fr, eu"):
        load_queries(["pt"], ["just-eval"])


def test_lines_without_ids_pair_up_by_order() -> None:
    numbered = [{**item, "id": number} for number, item in enumerate(spanish(ids=False), 1)]
    for published in (spanish(ids=False), numbered):
        found = just_eval.align(items(published), items(english()), language="es", source="hf:x")
        assert [(item.id(), item.text("instruction")) for item in found][5] == ("765", PAIRS[5]["es"])


REFUSED = {
    "a line is missing": (spanish(ids=False)[1:], "es", "it has 39 lines for 40 queries"),
    "an id is missing": (spanish(ids=True)[1:], "es", "it has 39 lines for 40 queries"),
    "another order": (spanish(ids=False)[1:] + spanish(ids=False)[:1], "es", "not in the order .* from line 1 on"),
    "another language": (spanish(ids=False), "fr", "texts are identified as fr"),
    "other fields": ([{"prompt": pair["es"]} for pair in PAIRS], "es", "file:1: the field `instruction` is missing"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_pair_up_is_refused_in_one_line(case: str) -> None:
    published, language, message = REFUSED[case]
    with pytest.raises(InputError, match=message) as refused:
        just_eval.align(items(published), items(english()), language=language, source="hf:x")
    assert "\n" not in str(refused.value)
