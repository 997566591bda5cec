"""Verifiable instructions: whether a text follows "at least 200 words", "no commas" and 30 others, decided by rules.

Names, parameters and meaning are those of IFEval (arXiv 2311.07911) and of M-IFEval's Spanish and French instructions
(arXiv 2502.04688), so that their query files work as they are. Pure functions of the text.
"""

from __future__ import annotations

import difflib
import inspect
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from icl_local.exceptions import InputError, MissingExtra

Check = Callable[..., bool]

LANGUAGES = ("en", "es", "fr")
_CHECKS: dict[str, Check] = {}


def followed(check: Mapping[str, Any], text: str, *, language: str, loose: bool = False) -> bool:
    """Return whether ``text`` follows ``check``: {"id": "es:keywords:existence", "keywords": [...]}.

    ``language`` is that of the query, for ids without one, as IFEval has them. ``loose`` also accepts the text without
    its first line, its last line, or its asterisks (IFEval, section 2.2). An empty text follows nothing. Raises
    InputError as ``require_known`` does, MissingExtra where the language of a text must be found.
    """
    function = require_known(check)
    first = str(check["id"]).partition(":")[0]
    parameters = {"language": first if first in LANGUAGES else language, **_parameters(check)}
    variants = _variants(text) if loose else [text]
    return any(bool(variant.strip()) and function(variant, **parameters) for variant in variants)


def require_known(check: Mapping[str, Any]) -> Check:
    """Return the rule of ``check``. Raises InputError for an unknown id or other parameters than the instruction's."""
    name = str(check.get("id"))
    first, _, rest = name.partition(":")
    function = _CHECKS.get(rest if first in LANGUAGES else name)
    if function is None:
        near = difflib.get_close_matches(name, _CHECKS, n=1)
        raise InputError(f"unknown instruction {name!r}; {f'did you mean {near[0]}?' if near else 'see docs/lab.md'}")
    try:
        inspect.signature(function).bind("", **{"language": "en", **_parameters(check)})
    except TypeError as error:
        raise InputError(f"instruction {name}: {error}") from None
    return function


def _parameters(check: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in check.items() if key != "id" and value is not None}


def _variants(text: str) -> Iterator[str]:
    lines = text.split("\n")
    for variant in (text, *("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))):
        yield variant
        yield variant.replace("*", "")


def _instruction(*names: str) -> Callable[[Check], Check]:
    def register(function: Check) -> Check:
        _CHECKS.update(dict.fromkeys(names, function))
        return function

    return register


def _holds(count: int, relation: str, wanted: int) -> bool:
    """Compare a count; the relations are those of the three languages, "como máximo" includes the number."""
    if relation in ("less than", "moins de"):
        return count < wanted
    return count <= wanted if relation == "como máximo" else count >= wanted


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text)


# -- keywords


@_instruction("keywords:existence")
def _existence(text: str, *, keywords: Sequence[str], language: str) -> bool:
    return all(word.lower() in text.lower() for word in keywords)


@_instruction("keywords:frequency")
def _frequency(text: str, *, keyword: str, frequency: int, relation: str, language: str) -> bool:
    return _holds(text.lower().count(keyword.lower()), relation, frequency)


@_instruction("keywords:forbidden_words")
def _forbidden(text: str, *, forbidden_words: Sequence[str], language: str) -> bool:
    return not any(re.search(rf"\b{re.escape(word)}\b", text, re.IGNORECASE) for word in forbidden_words)


@_instruction("keywords:letter_frequency")
def _letters(text: str, *, letter: str, let_frequency: int, let_relation: str, language: str) -> bool:
    return _holds(text.lower().count(letter.lower()), let_relation, let_frequency)


# -- language and case


@_instruction("language:response_language")
def _response_language(text: str, *, language: str, **_: object) -> bool:
    return _is_in(text, language)


def _is_in(text: str, language: str) -> bool:
    """Return whether langdetect, which IFEval is defined by, finds ``language`` or no features to decide by."""
    try:
        import langdetect
    except ImportError:
        raise MissingExtra("ifeval", "langdetect") from None
    langdetect.DetectorFactory.seed = 0
    try:
        return bool(langdetect.detect(text) == language)
    except langdetect.LangDetectException:
        return True


# -- lengths


@_instruction("length_constraints:number_words")
def _number_words(text: str, *, num_words: int, relation: str, language: str) -> bool:
    return _holds(len(_words(text)), relation, num_words)


_SENTENCE_END = re.compile(r"[.!?]+[\"'”’»)\]*_]*(?=\s|$)")
_ABBREVIATIONS = frozenset(
    ["mr", "mrs", "ms", "dr", "prof", "st", "vs", "sr", "sra", "jr", "inc", "no", "fig", "gov", "gen", "e.g", "i.e"]
)


def _sentences(text: str, language: str) -> int:
    """Count ends of sentences. "1." begins an item of a list, which English IFEval counts as a sentence of its own."""
    abbreviations = _ABBREVIATIONS | ({"etc"} if language == "es" else set())
    count = end = 0
    for match in _SENTENCE_END.finditer(text):
        line = text[text.rfind("\n", 0, match.start()) + 1 : match.start()]
        word = (line.split() or [""])[-1].lstrip("(\"'*“«").lower()
        if match.group() == "." and (word in abbreviations or re.fullmatch(r"([a-z]\.)*[a-z]", word)):
            continue
        if language != "en" and re.fullmatch(r"\W*\d+", line) and not text.startswith("**", match.end() + 1):
            continue
        count, end = count + 1, match.end()
    return count + bool(re.search(r"\w", text[end:]))


@_instruction("length_constraints:number_sentences")
def _number_sentences(text: str, *, num_sentences: int, relation: str, language: str) -> bool:
    return _holds(_sentences(text, language), relation, num_sentences)


@_instruction("length_constraints:number_paragraphs")
def _number_paragraphs(text: str, *, num_paragraphs: int, language: str) -> bool:
    parts = [part.strip() for part in re.split(r"\s?\*\*\*\s?", text)]
    return all(parts[1:-1]) and sum(map(bool, parts)) == num_paragraphs


@_instruction("length_constraints:nth_paragraph_first_word")
def _nth_first_word(text: str, *, num_paragraphs: int, nth_paragraph: int, first_word: str, language: str) -> bool:
    paragraphs = [part for part in text.split("\n\n") if part.strip()]
    if len(paragraphs) != num_paragraphs or nth_paragraph > len(paragraphs):
        return False
    start = text.split("\n\n")[nth_paragraph - 1].strip().lstrip("'\"")
    return bool(re.match(rf"{re.escape(first_word)}(?![^.,?!'\"\s])", start, re.IGNORECASE))


# -- content


@_instruction("detectable_content:number_placeholders")
def _placeholders(text: str, *, num_placeholders: int, language: str, relation: str = "") -> bool:
    return len(re.findall(r"\[.*?\]", text)) >= num_placeholders


@_instruction("detectable_content:postscript")
def _postscript(text: str, *, postscript_marker: str, language: str) -> bool:
    pattern = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}.get(postscript_marker)
    return bool(re.search(pattern or re.escape(postscript_marker.lower()), text.lower()))


@_instruction("detectable_content:informal_address")
def _informal(text: str, *, language: str) -> bool:
    return bool(re.search(r"\b(tu|te|toi|ton|ta|tes)\b|\bt['’]", text, re.IGNORECASE))


@_instruction("detectable_content:no_digits")
def _no_digits(text: str, *, language: str) -> bool:
    return not re.search(r"\d", text)


# -- format


@_instruction("detectable_format:number_bullet_lists")
def _bullets(text: str, *, num_bullets: int, language: str) -> bool:
    return len(re.findall(r"^\s*(?:\*[^*]|-).*$", text, re.MULTILINE)) == num_bullets


_CHOICES = {
    "en": ("My answer is yes.", "My answer is no.", "My answer is maybe."),
    "es": ("Sí.", "No.", "Quizás."),
    "fr": ("Oui.", "Non.", "Peut-être."),
}


@_instruction("detectable_format:constrained_response")
def _constrained(text: str, *, language: str) -> bool:
    return any(choice in text for choice in _CHOICES[language])


@_instruction("detectable_format:number_highlighted_sections")
def _highlights(text: str, *, num_highlights: int, language: str, relation: str = "") -> bool:
    one = [found for found in re.findall(r"\*([^\n*]*)\*", text) if found.strip()]
    two = [found for found in re.findall(r"\*\*([^\n*]*)\*\*", text) if found.strip()]
    return len(one) + len(two) >= num_highlights


@_instruction("detectable_format:multiple_sections")
def _sections(text: str, *, section_spliter: str, num_sections: int, language: str, relation: str = "") -> bool:
    return len(re.findall(rf"\s?{re.escape(section_spliter)}\s?\d+\s?", text)) >= num_sections


@_instruction("detectable_format:json_format")
def _json(text: str, *, language: str) -> bool:
    body = re.sub(r"^```(?:json)?|```$", "", text.strip(), flags=re.IGNORECASE)
    try:
        json.loads(body.strip())
    except ValueError:
        return False
    return True


@_instruction("detectable_format:title")
def _title(text: str, *, language: str) -> bool:
    pattern = r"##[^\n]+##" if language == "fr" else r"<<[^\n]+>>"
    return any(found.strip("<># ") for found in re.findall(pattern, text))


# -- combinations, start and end


@_instruction("combination:two_responses")
def _two_responses(text: str, *, language: str) -> bool:
    parts = [part.strip() for part in text.split("******")]
    found = [part for part in parts if part]
    return all(parts[1:-1]) and len(found) == 2 and found[0] != found[1]


@_instruction("combination:repeat_prompt")
def _repeat(text: str, *, prompt_to_repeat: str, language: str) -> bool:
    return text.strip().lower().startswith(prompt_to_repeat.strip().lower())


@_instruction("startend:end_checker")
def _end(text: str, *, end_phrase: str, language: str) -> bool:
    body = text.strip().strip('"')
    if language == "es":
        body, end_phrase = body.rstrip("."), end_phrase.rstrip(".")
    return body.lower().endswith(end_phrase.strip().lower())


@_instruction("startend:quotation")
def _quotation(text: str, *, language: str) -> bool:
    body = text.strip()
    return len(body) > 1 and (body[0] + body[-1]) in ('""', "«»")


# -- case and characters


@_instruction("change_case:capital_word_frequency")
def _capital_words(text: str, *, capital_frequency: int, capital_relation: str, language: str) -> bool:
    count = sum(word.isupper() for word in re.findall(r"[\w'’-]+", text))
    return _holds(count, capital_relation, capital_frequency)


@_instruction("change_case:english_capital", "change_case:spanish_capital", "change_case:french_capital")
def _capital(text: str, *, language: str) -> bool:
    return text.isupper() and _is_in(text if language == "en" else text.lower(), language)


@_instruction("change_case:english_lowercase", "change_case:spanish_lowercase", "change_case:french_lowercase")
def _lowercase(text: str, *, language: str) -> bool:
    return text.islower() and _is_in(text, language)


@_instruction("punctuation:no_comma")
def _no_comma(text: str, *, language: str) -> bool:
    return "," not in text


@_instruction("punctuation:exclamation_marks")
def _exclamation(text: str, *, language: str) -> bool:
    return "¡" in text and "!" in text


@_instruction("punctuation:question_marks")
def _question(text: str, *, language: str) -> bool:
    return "¿" in text and "?" in text


@_instruction("special_character:enie")
def _enie(text: str, *, let_frequency: int, language: str) -> bool:
    return sum("ñ" in word.lower() for word in _words(text)) == let_frequency


@_instruction("special_character:dieresis")
def _dieresis(text: str, *, let_frequency: int, language: str) -> bool:
    return sum("ü" in word.lower() for word in _words(text)) == let_frequency


@_instruction("special_character:tildes")
def _tildes(text: str, *, num_words: int, relation: str, language: str) -> bool:
    return _holds(sum(bool(re.search("[áéíóú]", word.lower())) for word in _words(text)), relation, num_words)


@_instruction("special_character:ethel_or_cedilla")
def _forbidden_character(text: str, *, forbidden_char: str, language: str) -> bool:
    return forbidden_char.lower() not in text.lower()


@_instruction("special_character:no_accents")
def _no_accents(text: str, *, language: str) -> bool:
    return not re.search("[àâäéèêëîïôöùûüÿç]", text.lower())


@_instruction("special_character:accents")
def _accents(text: str, *, word_to_accentuate: Mapping[str, str], language: str) -> bool:
    return not set(_words(text.lower())) & word_to_accentuate.keys()
