"""Checks of translations, and the splitting of texts for a model of single sentences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icl_local.exceptions import InputError
from icl_local.translate import segments, spans
from icl_local.translate.checks import REFUSALS, check, missing_numbers
from tests.counting import calls
from tests.translation_faults import PER_KIND, PLANTERS, Case, controls, planted

LEAST_RECALL = {"answered": 0.75, "refused": 0.75, "untranslated": 0.95}


def checked(case: Case) -> dict[str, Any]:
    return check(case.source, case.candidate, source_language="en", language=case.language)


def test_checks_find_what_was_planted_and_leave_good_translations_alone() -> None:
    assert [case.candidate for case in controls() if checked(case)["flags"]] == []
    found = dict.fromkeys(PLANTERS, 0)
    for case in planted():
        assert case.kind is not None
        found[case.kind] += checked(case)[case.kind]
    short = {kind: n for kind, n in found.items() if n < PER_KIND * LEAST_RECALL.get(kind, 1.0)}
    assert short == {}


def test_what_an_engine_says_of_its_text_is_a_finding() -> None:
    assert check("Hello there", "Hola", source_language="en", language="es", finish_reason="length")["truncated"]
    assert check("Hello there", "Hola", source_language="en", language="es", finish_reason="refused")["refused"]


def test_findings_are_stored_with_their_version_and_the_names_that_fired() -> None:
    row = check("How old is the Sun?", "", source_language="en", language="es")
    assert (row["version"], row["flags"], row["empty"], row["answered"]) == (1, ["empty"], True, False)


@pytest.mark.parametrize(
    "source,candidate,lost",
    [
        ("1,000 euros in the 19th century", "1000 euros en el siglo XIX", False),
        ("0.9 litres and 1,234.5 km", "0,9 litros y 1.234,5 km", False),
        ("at 3 pm in the 1980s", "a las 15 h en los años 80", False),
        ("three cats", "3 gatos", False),
        ("3 cats", "4 gatos", True),
        ("in 1950", "en 1590", True),
        ("some people", "5000 personas", True),
        ("2.5 kg", "25 kg", True),
    ],
)
def test_numbers_count_as_kept_however_another_language_writes_them(source: str, candidate: str, lost: bool) -> None:
    assert missing_numbers(source, candidate) is lost


def test_spans_are_code_urls_and_placeholders() -> None:
    text = "Call `f(x)` or my_list.append(3) for {name}, see https://example.org/a_b."
    assert [part.text for part in spans.parts(text) if part.kind != spans.PROSE] == [
        "`f(x)`",
        "my_list.append(3)",
        "{name}",
        "https://example.org/a_b",
    ]


def test_sentences_are_split_where_they_end_and_nowhere_else() -> None:
    text = "Dr. Smith, e.g., paid $3.50 to J. Doe. Why? Nobody knows!  (Not even he.)"
    sentences = [part.text for part in segments.split(text) if part.kind == spans.PROSE]
    assert sentences == ["Dr. Smith, e.g., paid $3.50 to J. Doe.", "Why?", "Nobody knows!", "(Not even he.)"]


def test_code_and_list_markers_never_reach_the_model() -> None:
    text = "Fix this:\n\n```py\nx = 1\n```\n- first point\n  2) second\nif (a > 1) {\n}\nUse {name} at www.x.org."
    seen: list[str] = []

    def shout(sentences: list[str]) -> list[str]:
        seen.extend(sentences)
        return [s.upper() for s in sentences]

    (out,) = segments.translate_texts([text], shout)
    assert seen == ["Fix this:", "first point", "second", "Use QZ0 at QZ1."]
    assert out == (
        "FIX THIS:\n\n```py\nx = 1\n```\n- FIRST POINT\n  2) SECOND\nif (a > 1) {\n}\nUSE {name} AT www.x.org."
    )


def test_spans_survive_a_model_that_loses_or_doubles_their_masks() -> None:
    for spoil in (lambda s: s.replace("QZ0", ""), lambda s: s.replace("QZ0", "QZ0 QZ0"), lambda s: "nonsense"):
        (out,) = segments.translate_texts(["Say {name} to me."], lambda xs, spoil=spoil: [spoil(x) for x in xs])
        assert out.count("{name}") == 1


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet=st.sampled_from("aB1.?!` \n{}<>-•)(/:;=\\_é«»"), max_size=120))
def test_a_text_that_a_model_gives_back_as_it_came_is_the_same(text: str) -> None:
    assert "".join(s.text for s in segments.split(text)) == text
    assert segments.translate_texts([text], list) == [text]
    assert segments.translate_texts([text], lambda xs: [x.replace("QZ", "") for x in xs]) == [text]


HOSTILE_UNITS = ["ab.", "1,", "<a ", "if (", "a_", "\\a{"]


def check_hostile_text(unit: str, *, characters: int) -> None:
    text = unit * (characters // len(unit))
    check(text, text[::-1], source_language="en", language="es")
    segments.split(text)


@pytest.mark.parametrize("unit", HOSTILE_UNITS)
def test_hostile_texts_need_a_bounded_number_of_steps(unit: str) -> None:
    assert calls(lambda: check_hostile_text(unit, characters=2_000)) < 750_000


def test_unchanged_queries_are_untranslated(shared_dir: Path) -> None:
    from icl_local.prompting.queries import load_file

    found = load_file(shared_dir / "just_eval/queries.en.jsonl", language="en").queries[::4]
    missed = [
        q for q in found if not check(q.instruction, q.instruction, source_language="en", language="es")["untranslated"]
    ]
    assert len(missed) <= 1


@pytest.mark.parametrize(
    "text, message", [('cy = "ddrwg"', "cy must be a list of texts"), ('cy = ["("]', "is not a regular expression")]
)
def test_wrong_patterns_of_refusals_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / REFUSALS).write_text(text)
    with pytest.raises(InputError, match=message):
        check("Hello", "Helo", source_language="en", language="cy", overlay=tmp_path)
