"""Words of messages: numbers with their nouns, names of models after DPO."""

from __future__ import annotations


def counted(number: int, one: str, many: str | None = None) -> str:
    """Return the number with its words: "1 query", "1,234 queries"; ``many`` is by default the plural of ``one``."""
    if number == 1:
        return f"1 {one}"
    return f"{number:,} {many or (one[:-1] + 'ies' if one.endswith('ry') else one + 's')}"


def with_dpo(model: str, dpo: bool) -> str:
    """Return the name of a model for people, which says whether it is the DPO variant."""
    return f"{model} DPO" if dpo else model
