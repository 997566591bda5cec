"""``rules`` as a judge: an answer is scored against what its query expects, without a model.

Each metric is a function of the answer, 1 or 0 (ifeval_share: between), None where the query lacks its input.
"""

import math
import operator
import re
import statistics
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from icl_local import resources, store
from icl_local.detect import followed, identify_language
from icl_local.exceptions import InputError
from icl_local.identity import key_of
from icl_local.judging.ledger import Attempt, Task
from icl_local.judging.parse import NOT_APPLICABLE, OK, AspectScore, Verdict
from icl_local.judging.template import Template, Templates
from icl_local.prompting.expectations import REGEX
from icl_local.store import Row

NAME = "rules"
_CHUNK = 500  # verdicts between two puts
_ARTICLES = {
    "en": {"a", "an", "the"},
    "es": {"el", "la", "los", "las", "un", "una", "unos", "unas"},
    "fr": {"le", "la", "les", "un", "une", "des", "l"},
}
_UNSPACED = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"  # Japanese and Chinese: each character is a word
_WORD = re.compile(  # or one sign
    rf"[{_UNSPACED}]|(?:(?<!\w)-(?=\d))?[^\W_{_UNSPACED}]+(?:[.,_-][^\W_{_UNSPACED}]+)*|[^\w\s'’]"
)
_NUMBER = re.compile(
    r"(?:(?<!\w)[-+−])?(?:\d{1,3}(?: \d{3})+(?!\d)|\d)[\d.,\u00a0\u202f]*(?:e[-+]?\d+)?", re.IGNORECASE
)


class RuleTemplates(Templates):
    """The one text that says what the rules are, for every split and language."""

    def _make(self, split: str, language: str) -> Template:
        return Template(NAME, resources.read_text("prompts", "judge.rules.txt"))


class RulesJudge:
    """Scores answers by rules, with the interface of a Judge."""

    name = NAME
    judge_id = key_of(kind="judge", backend=NAME)
    takes_choices = True

    def __init__(self) -> None:
        self.row: Row = {"judge_id": self.judge_id, "name": NAME, "settings": {}, "backend": NAME, "model": NAME}

    def attempts(self, tasks: Sequence[Task]) -> Iterator[list[Attempt]]:
        """Yield one attempt per task. Raises InputError for a pattern that RE2 refuses, MissingExtra."""
        for start in range(0, len(tasks), _CHUNK):
            yield [_attempt(task) for task in tasks[start : start + _CHUNK]]


def verdict(task: Task) -> Verdict:
    """Return the scores of all metrics; a rule without its input is not applicable."""
    values = {name: rule(task) for name, rule in RULES.items()}
    aspects = tuple(AspectScore(name, value, not_applicable=value is None) for name, value in values.items())
    return Verdict(NOT_APPLICABLE if None in values.values() else OK, aspects)


def _attempt(task: Task) -> Attempt:
    columns = {"structured": NAME, "parameters": {"expectation": task.expectation}}
    return Attempt(task, verdict(task), columns=columns)


def _words(text: str, language: str) -> list[str]:
    """Return the words that are compared: NFKC, cut at apostrophes, without case, outer punctuation and articles."""
    found = _WORD.findall(unicodedata.normalize("NFKC", text).casefold().replace("−", "-"))
    while found and not found[0][-1].isalnum():
        found.pop(0)
    while found and not found[-1][-1].isalnum():
        found.pop()
    return [word for word in found if word not in _ARTICLES.get(language, ())] or found


def _within(words: list[str], part: list[str]) -> bool:
    return any(words[at : at + len(part)] == part for at in range(len(words) - len(part) + 1))


def _any_reference(task: Task, holds: Callable[[list[str], list[str]], bool]) -> float | None:
    references = [_words(text, task.language) for text in task.expected.get("reference", ())]
    references = [reference for reference in references if reference]
    if not references:
        return None
    words = _words(task.text, task.language)
    return float(any(holds(words, reference) for reference in references))


def _numeric(task: Task) -> float | None:
    texts = [text for text in task.expected.get("reference", ()) if _NUMBER.fullmatch(text.strip())]
    if not texts:
        return None
    expected, found = ([_number(text, task.language) for text in part] for part in (texts, _NUMBER.findall(task.text)))
    last = next((number for number in reversed(found) if number is not None), math.nan)
    return float(any(number is not None and math.isclose(number, last, rel_tol=1e-6) for number in expected))


def _number(text: str, language: str) -> float | None:
    """Read digits with the decimal sign of the language, or with the other one where only that is possible."""
    digits = re.sub("[ \u00a0\u202f]", "", text.strip().rstrip(".,")).replace("−", "-")
    decimal, thousands = (",", ".") if language in ("es", "fr") else (".", ",")
    grouped = re.fullmatch(rf"[-+]?\d{{1,3}}(?:{re.escape(thousands)}\d{{3}})+(?:{re.escape(decimal)}\d+)?", digits)
    if grouped or decimal in digits:
        digits = digits.replace(thousands, "").replace(decimal, ".")
    else:
        digits = digits.replace(thousands, ".")
    try:
        return float(digits)
    except ValueError:
        return None


def _choice(task: Task) -> float | None:
    choices, answer = task.expected.get("choices"), task.expected.get("answer")
    if not choices or answer is None:
        return None
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[: len(choices)]
    # a small letter in a sentence may be a word: a, y
    text = task.text.upper() if re.fullmatch(r"\W*\w\W*", task.text) else task.text
    named = re.findall(rf"(?<![\w'’])([{letters}]|[{letters.lower()}](?=\)))(?![\w'’])", text)
    texts = [_words(choice, task.language) for choice in choices]
    words = _words(task.text, task.language)
    found = [place for place, choice in enumerate(texts) if choice and _within(words, choice)]
    spelled = {one for one in found if not any(one != other and _within(texts[other], texts[one]) for other in found)}
    chosen = spelled if len(spelled) == 1 else {letters.index(letter.upper()) for letter in named}
    return float(chosen == {answer})


def _accuracy(task: Task, picked: str | None) -> float | None:
    choices, answer = task.expected.get("choices"), task.expected.get("answer")
    if task.by_bytes is None or not choices or answer is None:
        return None
    return float(picked == choices[answer])


def _language_match(task: Task) -> float | None:
    found = identify_language(task.text)
    return None if found is None else float(found == task.language)


def _regex(task: Task) -> float | None:
    patterns = [check["pattern"] for check in task.expected.get("checks", ()) if check["id"] == REGEX]
    return float(all(store.matches(pattern, task.text) for pattern in patterns)) if patterns else None


def _ifeval(task: Task, combined: Callable[[list[bool]], float], *, loose: bool = False) -> float | None:
    checks = [check for check in task.expected.get("checks", ()) if check["id"] != REGEX]
    try:
        found = [followed(check, task.text, language=task.language, loose=loose) for check in checks]
    except InputError:  # stored by a version that took other parameters
        return None
    return float(combined(found)) if found else None


RULES: dict[str, Callable[[Any], float | None]] = {
    "exact_match": lambda task: _any_reference(task, operator.eq),
    "contains": lambda task: _any_reference(task, _within),
    "regex": _regex,
    "numeric": _numeric,
    "choice": _choice,
    "accuracy": lambda task: _accuracy(task, task.text),
    "accuracy_bytes": lambda task: _accuracy(task, task.by_bytes),
    "language_match": _language_match,
    "ifeval_strict": lambda task: _ifeval(task, all),
    "ifeval_loose": lambda task: _ifeval(task, all, loose=True),
    "ifeval_share": lambda task: _ifeval(task, statistics.fmean),
}
