"""Verifiable instructions: whether a text follows "at least 200 words", "no commas" and 30 others, decided by rules.

Names, parameters and meaning are those of IFEval (arXiv 2311.07911) and of M-IFEval's Spanish and French instructions
(arXiv 2502.04688), so that their query files work as they are. Pure functions of the text.
"""

import inspect
import json
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from icl_local.exceptions import InputError, did_you_mean, needs_extra

LANGUAGES = ("en", "es", "fr")
_SENTENCE_END = re.compile(r"[.!?]+[\"'”’»)\]*_]*(?=\s|$)")
_ABBREVIATIONS = frozenset(
    ["mr", "mrs", "ms", "dr", "prof", "st", "vs", "sr", "sra", "jr", "inc", "no", "fig", "gov", "gen", "e.g", "i.e"]
)
_CHOICES = {
    "en": ("My answer is yes.", "My answer is no.", "My answer is maybe."),
    "es": ("Sí.", "No.", "Quizás."),
    "fr": ("Oui.", "Non.", "Peut-être."),
}
_RELATIONS: dict[str, Callable[[int, int], bool]] = {  # "como máximo" includes the number, the others do not
    **dict.fromkeys(["less than", "moins de"], operator.lt),
    "como máximo": operator.le,
    **dict.fromkeys(["at least", "al menos", "au moins"], operator.ge),
}
_POSTSCRIPTS = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}


def followed(check: Mapping[str, Any], text: str, *, language: str, loose: bool = False) -> bool:
    """Return whether ``text`` follows ``check``: {"id": "es:keywords:existence", "keywords": [...]}.

    ``language`` is that of the query, for ids without one, as IFEval has them. ``loose`` also accepts the text without
    its first line, its last line, or its asterisks (IFEval, section 2.2). An empty text follows nothing. Raises
    InputError as ``require_known`` does, MissingExtra where the language of a text must be found.
    """
    rule = require_known(check, language=language)
    return any(bool(variant.strip()) and rule(variant) for variant in (_variants(text) if loose else [text]))


def require_known(check: Mapping[str, Any], *, language: str = "en") -> Callable[[str], bool]:
    """Return the rule of ``check`` for texts in ``language``, or in that of its id.

    Raises InputError for an unknown id or other parameters than the instruction's.
    """
    name = str(check.get("id"))
    first, _, rest = name.partition(":")
    function = _RULES.get(rest if first in LANGUAGES else name)
    if function is None:
        raise InputError(f"unknown instruction {name!r}{did_you_mean(name, list(_RULES))}; see docs/lab.md")
    signature = inspect.signature(function)
    parameters: dict[str, Any] = {"language": first if first in LANGUAGES else language}
    parameters |= {key: value for key, value in check.items() if key != "id" and value is not None}
    if "language" not in signature.parameters:
        del parameters["language"]
    try:
        signature.bind("", **parameters)
    except TypeError as error:
        raise InputError(f"instruction {name}: {error}") from None
    for key, value in parameters.items():
        fits, described = _form(key)
        if not fits(value):
            raise InputError(f"instruction {name}: {key} must be {described}, not {value!r}")
        if key.endswith("relation"):
            parameters[key] = _RELATIONS[value]
        elif isinstance(value, float):
            parameters[key] = int(value)  # a table has whole numbers as 1.0
    return partial(function, **parameters)


def _form(parameter: str) -> tuple[Callable[[Any], bool], str]:
    """Return what the values of a parameter fit, and its description."""
    if parameter.endswith("relation"):
        return list(_RELATIONS).__contains__, f"one of {', '.join(_RELATIONS)}"
    if parameter.startswith(("num_", "nth_")) or parameter.endswith("frequency"):
        return _is_whole, "a whole number from 0"
    if parameter in ("keywords", "forbidden_words"):
        return lambda value: isinstance(value, list) and value != [] and all(map(_is_text, value)), "a list of texts"
    if parameter == "word_to_accentuate":
        return lambda value: isinstance(value, dict), "an object"
    return _is_text, "a text"


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0 and float(value).is_integer()


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _variants(text: str) -> Iterator[str]:
    lines = text.split("\n")
    for variant in (text, *("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))):
        yield variant
        yield variant.replace("*", "")


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text)


def _is_in(text: str, language: str) -> bool:
    """Return whether langdetect, which IFEval is defined by, finds ``language`` or no features to decide by."""
    with needs_extra("ifeval"):
        import langdetect
    langdetect.DetectorFactory.seed = 0
    try:
        return bool(langdetect.detect(text) == language)
    except langdetect.LangDetectException:
        return True


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


def _divided(text: str, divider: str) -> list[str]:
    """Return the parts between dividers that are not empty; none where one inside the text is."""
    parts = [part.strip() for part in re.split(divider, text)]
    return [part for part in parts if part] if all(parts[1:-1]) else []


def _nth_first_word(text: str, num_paragraphs: int, nth_paragraph: int, first_word: str) -> bool:
    paragraphs = [part for part in text.split("\n\n") if part.strip()]
    if len(paragraphs) != num_paragraphs or not 1 <= nth_paragraph <= num_paragraphs:
        return False
    start = text.split("\n\n")[nth_paragraph - 1].strip().lstrip("'\"")
    return bool(re.match(rf"{re.escape(first_word)}(?![^.,?!'\"\s])", start, re.IGNORECASE))


def _highlights(text: str) -> int:
    marked = re.findall(r"\*([^\n*]*)\*", text) + re.findall(r"\*\*([^\n*]*)\*\*", text)
    return sum(bool(found.strip()) for found in marked)


def _is_json(text: str) -> bool:
    body = re.sub(r"^```(?:json)?|```$", "", text.strip(), flags=re.IGNORECASE)
    try:
        json.loads(body.strip())
    except ValueError:
        return False
    return True


def _has_title(text: str, language: str) -> bool:
    pattern = r"##[^\n]+##" if language == "fr" else r"<<[^\n]+>>"
    return any(found.strip("<># ") for found in re.findall(pattern, text))


def _ends(text: str, end_phrase: str, language: str) -> bool:
    body = text.strip().strip('"')
    if language == "es":
        body, end_phrase = body.rstrip("."), end_phrase.rstrip(".")
    return body.lower().endswith(end_phrase.strip().lower())


def _is_capital(text: str, language: str) -> bool:
    return text.isupper() and _is_in(text if language == "en" else text.lower(), language)


def _is_lowercase(text: str, language: str) -> bool:
    return text.islower() and _is_in(text, language)


# id without its language -> rule of a text; its other parameters are those of the instruction, and the language
_RULES: dict[str, Callable[..., bool]] = {
    "keywords:existence": lambda text, keywords: all(word.lower() in text.lower() for word in keywords),
    "keywords:frequency": lambda text, keyword, frequency, relation: relation(
        text.lower().count(keyword.lower()), frequency
    ),
    "keywords:forbidden_words": lambda text, forbidden_words: (
        not any(re.search(rf"\b{re.escape(word)}\b", text, re.IGNORECASE) for word in forbidden_words)
    ),
    "keywords:letter_frequency": lambda text, letter, let_frequency, let_relation: let_relation(
        text.lower().count(letter.lower()), let_frequency
    ),
    "language:response_language": lambda text, language, **_: _is_in(text, language),
    "length_constraints:number_words": lambda text, num_words, relation: relation(len(_words(text)), num_words),
    "length_constraints:number_sentences": lambda text, num_sentences, relation, language: relation(
        _sentences(text, language), num_sentences
    ),
    "length_constraints:number_paragraphs": lambda text, num_paragraphs: (
        len(_divided(text, r"\s?\*\*\*\s?")) == num_paragraphs
    ),
    "length_constraints:nth_paragraph_first_word": _nth_first_word,
    "detectable_content:number_placeholders": lambda text, num_placeholders, relation=operator.ge: relation(
        len(re.findall(r"\[.*?\]", text)), num_placeholders
    ),
    "detectable_content:postscript": lambda text, postscript_marker: bool(
        re.search(_POSTSCRIPTS.get(postscript_marker) or re.escape(postscript_marker.lower()), text.lower())
    ),
    "detectable_content:informal_address": lambda text: bool(
        re.search(r"\b(tu|te|toi|ton|ta|tes)\b|\bt['’]", text, re.IGNORECASE)
    ),
    "detectable_content:no_digits": lambda text: not re.search(r"\d", text),
    "detectable_format:number_bullet_lists": lambda text, num_bullets: (
        len(re.findall(r"^\s*(?:\*[^*]|-).*$", text, re.MULTILINE)) == num_bullets
    ),
    "detectable_format:constrained_response": lambda text, language: any(
        choice in text for choice in _CHOICES.get(language, _CHOICES["en"])
    ),
    "detectable_format:number_highlighted_sections": lambda text, num_highlights, relation=operator.ge: relation(
        _highlights(text), num_highlights
    ),
    "detectable_format:multiple_sections": lambda text, section_spliter, num_sections, relation=operator.ge: relation(
        len(re.findall(rf"\s?{re.escape(section_spliter)}\s?\d+\s?", text)), num_sections
    ),
    "detectable_format:json_format": _is_json,
    "detectable_format:title": _has_title,
    "combination:two_responses": lambda text: len(found := _divided(text, r"\*{6}")) == 2 and found[0] != found[1],
    "combination:repeat_prompt": lambda text, prompt_to_repeat: (
        text.strip().lower().startswith(prompt_to_repeat.strip().lower())
    ),
    "startend:end_checker": _ends,
    "startend:quotation": lambda text: re.fullmatch(r'".*"|«.*»', text.strip(), re.DOTALL) is not None,
    "change_case:capital_word_frequency": lambda text, capital_frequency, capital_relation: capital_relation(
        sum(word.isupper() for word in re.findall(r"[\w'’-]+", text)), capital_frequency
    ),
    **dict.fromkeys([f"change_case:{name}_capital" for name in ("english", "spanish", "french")], _is_capital),
    **dict.fromkeys([f"change_case:{name}_lowercase" for name in ("english", "spanish", "french")], _is_lowercase),
    "punctuation:no_comma": lambda text: "," not in text,
    "punctuation:exclamation_marks": lambda text: "¡" in text and "!" in text,
    "punctuation:question_marks": lambda text: "¿" in text and "?" in text,
    "special_character:enie": lambda text, let_frequency: (
        sum("ñ" in word.lower() for word in _words(text)) == let_frequency
    ),
    "special_character:dieresis": lambda text, let_frequency: (
        sum("ü" in word.lower() for word in _words(text)) == let_frequency
    ),
    "special_character:tildes": lambda text, num_words, relation: relation(
        sum(bool(re.search("[áéíóú]", word.lower())) for word in _words(text)), num_words
    ),
    "special_character:ethel_or_cedilla": lambda text, forbidden_char: forbidden_char.lower() not in text.lower(),
    "special_character:no_accents": lambda text: not re.search("[àâäéèêëîïôöùûüÿç]", text.lower()),
    "special_character:accents": lambda text, word_to_accentuate: (
        not set(_words(text.lower())) & set(map(str.lower, word_to_accentuate))
    ),
}
