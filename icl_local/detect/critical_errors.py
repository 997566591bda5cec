"""Critical errors of a response, as stored: infinite loops, unintended code; and the language of a text.

The query is not known here: the views, which know the task, decide whether code was unintended. Pure.
"""

import functools
from collections.abc import Callable

from icl_local.detect.answer import Answer
from icl_local.detect.code import find_code, patterns_version
from icl_local.detect.loops import Loop, find_loops

_ALGORITHM = "2"  # raise it when the algorithm finds other things; the patterns have their own version

_LANGUAGE_CHARS = 5_000  # of a text, enough to identify its language
_MIN_LETTERS = 10
# Languages so close to Spanish, French or English that short answers in these would be mistaken for them.
_LOOK_ALIKES = frozenset(("an", "ext", "gcf", "gcr", "lij", "oc", "pcm", "vec", "wa"))


def critical_error_rows(response_id: str, answer: Answer) -> list[dict[str, object]]:
    """Return the three rows of raw.critical_errors for a response, with the errors that were not found.

    Code is searched in the answer, loops in all that was generated before the stop: a model that repeats itself
    without end after its answer loops too. ``start_char`` counts from the start of the raw text.
    """
    literal, loop = find_loops(answer.generated)
    code = find_code(answer.text)
    errors = {"infinite_loop": loop, "infinite_loop_literal": literal, "unintended_code": code}
    version = detector_version()
    rows = []
    for error, found in errors.items():
        row = {"response_id": response_id, "error": error, "found": found is not None, "detector_version": version}
        row |= dict.fromkeys(("start_char", "unit", "copies", "span", "reaches_end", "kind"))
        if isinstance(found, Loop):
            row |= vars(found) | {"start_char": answer.first + found.start}
            del row["start"]
        elif found is not None:
            row |= {"start_char": answer.start + found.start, "unit": found.evidence, "kind": found.kind}
        rows.append(row)
    return rows


def identify_language(text: str) -> str | None:
    """Return the ISO 639 code of the main language of ``text``, by py3langid (extra ``langid``), without a judge.

    None if the extra is not installed, if the text has fewer than 10 letters, or if it is not in a language.
    """
    identifier = _language_identifier()
    head = text[:_LANGUAGE_CHARS].encode("utf-8", "replace").decode("utf-8")
    if identifier is None or sum(map(str.isalpha, head)) < _MIN_LETTERS:
        return None
    code = identifier(head)
    return None if code == "zxx" else code  # py3langid's code for numbers, markup and the like


@functools.cache
def _language_identifier() -> Callable[[str], str] | None:
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError:
        return None
    identifier = LanguageIdentifier.from_model_file(MODEL_FILE)
    identifier.set_languages([code for code in identifier.nb_classes if code not in _LOOK_ALIKES])
    return lambda text: str(identifier.classify(text)[0])


def detector_version() -> str:
    """Return the version of algorithms and code patterns, such as "1.1"; rows of two versions are not comparable."""
    return f"{_ALGORITHM}.{patterns_version()}"
