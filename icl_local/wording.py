"""Texts for people: numbers with their nouns, names of models after DPO, words of commands, cells of spreadsheets."""

import shlex

_FORMULA_STARTS = tuple("=+-@\t\r\n＝＋－＠")


def counted(number: int, one: str, many: str | None = None) -> str:
    """Return the number with its words: "1 query", "1,234 queries"; ``many`` is by default the plural of ``one``."""
    if number == 1:
        return f"1 {one}"
    return f"{number:,} {many or (one[:-1] + 'ies' if one.endswith('ry') else one + 's')}"


def with_dpo(model: str, dpo: bool) -> str:
    """Return the name of a model for people, which says whether it is the DPO variant."""
    return f"{model} DPO" if dpo else model


def is_formula(text: str) -> bool:
    """Return whether a spreadsheet would run a text as a formula."""
    return text.startswith(_FORMULA_STARTS) or text.lstrip().startswith(_FORMULA_STARTS)


def shell(word: object) -> str:
    """Return a word of a command for people to paste: quoted where a shell would read another word."""
    return shlex.quote(str(word))
