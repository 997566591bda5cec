"""Verifiable instructions: small cases, and M-IFEval's own verdicts on real answers in three languages."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from icl_local.detect import followed, require_known
from icl_local.exceptions import InputError

CASES: list[tuple[dict[str, Any], str, str]] = [
    # check, a text that follows it, one that does not
    ({"id": "keywords:existence", "keywords": ["Sun"]}, "the sun", "the moon"),
    ({"id": "keywords:forbidden_words", "forbidden_words": ["run"]}, "running", "a run"),
    ({"id": "keywords:frequency", "keyword": "a", "frequency": 2, "relation": "less than"}, "a b", "a a"),
    (
        {"id": "es:length_constraints:number_words", "num_words": 2, "relation": "como máximo"},
        "dos palabras",
        "una o 2",
    ),
    (
        {"id": "length_constraints:number_sentences", "num_sentences": 2, "relation": "at least"},
        "One two. Three?",
        "I.e. one.",
    ),
    ({"id": "length_constraints:number_paragraphs", "num_paragraphs": 2}, "a\n***\nb", "a\n\nb"),
    (
        {
            "id": "length_constraints:nth_paragraph_first_word",
            "num_paragraphs": 2,
            "nth_paragraph": 2,
            "first_word": "b",
        },
        "a\n\nB, c",
        "a\n\nbc",
    ),
    ({"id": "detectable_content:number_placeholders", "num_placeholders": 1}, "[name]", "name"),
    ({"id": "detectable_content:postscript", "postscript_marker": "P.S."}, "x\np. s. y", "PS y"),
    ({"id": "detectable_format:number_bullet_lists", "num_bullets": 1}, "* a", "**a**"),
    ({"id": "detectable_format:json_format"}, '```json\n{"a": 1}\n```', "{a: 1}"),
    ({"id": "fr:detectable_format:title"}, "##un titre##", "<<un titre>>"),
    ({"id": "en:detectable_format:title"}, "<<a title>>", "<<>>"),
    ({"id": "detectable_format:constrained_response"}, "My answer is no.", "No."),
    ({"id": "detectable_format:number_highlighted_sections", "num_highlights": 1}, "*a*", "a"),
    (
        {"id": "detectable_format:multiple_sections", "section_spliter": "Day", "num_sections": 2},
        "Day 1 Day 2",
        "Day 1",
    ),
    ({"id": "combination:two_responses"}, "a******b", "a******a"),
    ({"id": "combination:repeat_prompt", "prompt_to_repeat": "Say it"}, "say it: x", "x, say it"),
    ({"id": "es:startend:end_checker", "end_phrase": "Un saludo"}, "Adiós. Un saludo.", "Un saludo. Adiós"),
    ({"id": "startend:quotation"}, '"all"', '"a" b'),
    ({"id": "punctuation:no_comma"}, "a b", "a, b"),
    (
        {"id": "change_case:capital_word_frequency", "capital_frequency": 2, "capital_relation": "at least"},
        "A B",
        "A b",
    ),
    ({"id": "es:special_character:enie", "let_frequency": 1}, "el niño", "el nino"),
    ({"id": "es:special_character:tildes", "num_words": 1, "relation": "al menos"}, "más", "mas"),
    ({"id": "fr:special_character:no_accents"}, "ete", "été"),
    ({"id": "fr:special_character:accents", "word_to_accentuate": {"Ete": "été"}}, "l'été", "l'ete"),
    ({"id": "fr:special_character:ethel_or_cedilla", "forbidden_char": "œ"}, "coeur", "CŒUR"),
    ({"id": "fr:detectable_content:informal_address"}, "Tu sais", "Vous savez"),
    ({"id": "fr:detectable_content:no_digits"}, "deux", "2"),
]


@pytest.mark.parametrize(("check", "good", "bad"), CASES, ids=[case[0]["id"] for case in CASES])
def test_a_check_accepts_and_refuses(check: dict[str, Any], good: str, bad: str) -> None:
    assert followed(check, good, language="en")
    assert not followed(check, bad, language="en")
    assert not followed(check, " \n", language="en")


def test_loose_reading_forgives_a_first_line_a_last_line_and_asterisks() -> None:
    check = {"id": "startend:quotation"}
    for text in ('Sure:\n"all"', '"all"\nDone.', '**"all"**', 'Sure:\n"all"\nDone.'):
        assert not followed(check, text, language="en")
        assert followed(check, text, language="en", loose=True)


def test_unknown_names_and_parameters_are_refused() -> None:
    with pytest.raises(InputError, match="did you mean punctuation:no_comma"):
        require_known({"id": "punctuation:no_commas"})
    with pytest.raises(InputError, match=r"keywords:existence: .*keywords"):
        require_known({"id": "en:keywords:existence"})


def verdicts(folder: Path, language: str) -> Iterator[tuple[str, bool, bool]]:
    """Yield (instruction, published verdict, ours) of all answers in a language, strict and loose."""
    asked = [json.loads(line) for line in (folder / f"{language}.inputs.jsonl").open()]
    for file in sorted(folder.glob(f"{language}.*.jsonl")):
        if file.name.endswith(".inputs.jsonl"):
            continue
        for item, answer in zip(asked, map(json.loads, file.open()), strict=True):
            assert item["key"] == answer["key"]
            for number, (name, kwargs) in enumerate(zip(item["instruction_id_list"], item["kwargs"], strict=True)):
                for reading in ("strict", "loose"):
                    found = followed(
                        {"id": name, **kwargs}, answer["response"], language=language, loose=reading == "loose"
                    )
                    yield name, answer[reading][number], found


@pytest.mark.parametrize("language", ["en", "es", "fr"])
def test_agrees_with_m_ifeval_on_real_answers(shared_dir: Path, language: str) -> None:
    pytest.importorskip("langdetect")
    total: Counter[str] = Counter()
    same: Counter[str] = Counter()
    for name, published, ours in verdicts(shared_dir / "m_ifeval", language):
        total[name] += 1
        same[name] += published == ours
    assert sum(same.values()) >= 0.99 * sum(total.values())
    assert {name: f"{same[name]} of {n}" for name, n in total.items() if same[name] < 0.97 * n} == {}


@pytest.mark.parametrize(
    "check, message",
    [
        ({"id": "keywords:existence", "keywords": "abc"}, "keywords must be a list of texts, not 'abc'"),
        (
            {"id": "keywords:frequency", "keyword": "a", "frequency": "3", "relation": "at least"},
            "frequency must be a whole number from 0, not '3'",
        ),
        ({"id": "keywords:existence", "keywords": [5]}, "keywords must be a list of texts"),
        (
            {"id": "length_constraints:number_paragraphs", "num_paragraphs": True},
            "num_paragraphs must be a whole number",
        ),
        ({"id": "startend:end_checker", "end_phrase": 3}, "end_phrase must be a text, not 3"),
        ({"id": "startend:end_checker", "end_phrase": ""}, "end_phrase must be a text, not ''"),
        ({"id": "keywords:forbidden_words", "forbidden_words": []}, "forbidden_words must be a list of texts, not"),
        (
            {"id": "length_constraints:number_words", "num_words": 9, "relation": "at most"},
            "relation must be one of less than, moins de, como máximo, .* not 'at most'",
        ),
        (
            {"id": "length_constraints:number_paragraphs", "num_paragraphs": 1.5},
            "num_paragraphs must be a whole number",
        ),
        (
            {"id": "length_constraints:number_paragraphs", "num_paragraphs": -1},
            "num_paragraphs must be a whole number",
        ),
    ],
)
def test_parameters_of_another_type_are_refused(check: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        require_known(check)


def test_a_relation_holds_where_it_may_be_left_out() -> None:
    check = {"id": "detectable_content:number_placeholders", "num_placeholders": 2.0, "relation": "less than"}
    assert followed(check, "[name]", language="en")
    assert not followed(check, "[name] [place]", language="en")


def test_no_text_has_a_paragraph_before_its_first() -> None:
    check = {"id": "length_constraints:nth_paragraph_first_word", "num_paragraphs": 1, "nth_paragraph": 0}
    assert not followed({**check, "first_word": "a"}, "a b", language="en")


def test_a_language_without_choices_of_its_own_has_those_of_english() -> None:
    check = {"id": "detectable_format:constrained_response"}
    assert followed(check, "My answer is no.", language="eu")
    assert not followed(check, "Ez.", language="eu")
