"""A method as a model reads it: the parts of its prompt and their tokens, for `icl methods`."""

from dataclasses import dataclass
from pathlib import Path

from icl_local import prompting
from icl_local.engine import tokenize
from icl_local.prompting import Pools, Query
from icl_local.weights import registry


@dataclass(frozen=True)
class PromptPart:
    """A part of a method's prompt: the text before the examples, one example, or the query's block.

    ``tokens`` are those that the part adds to the parts before it; None without a model.
    """

    method: str
    part: str
    tokens: int | None
    text: str


def method_parts(
    names: list[str],
    language: str,
    *,
    query: str,
    model: str | None = None,
    pools: Pools | None = None,
    overlay: Path | None = None,
) -> list[PromptPart]:
    """Return the parts of the prompt of ``query`` by every method that the names stand for.

    Raises UnknownName, InputError, ConfigError, ModelError, MissingExtra.
    """
    found = []
    for recipe in prompting.expand(names, language, overlay=overlay, pools=pools):
        method = recipe.method
        file = None if model is None else registry.resolve(model, method_kind=method.kind)
        parts = recipe.parts(Query("", "", language, query, "multi"), info=None if file is None else file.info)
        counts: list[int | None] = [None] * len(parts)
        if file is not None:
            texts = ["".join(text for _, text in parts[:n]) for n in range(1, len(parts) + 1)]
            ends = [len(ids) for ids in tokenize(file.path, texts)]
            counts = [end - start for start, end in zip([0, *ends], ends, strict=False)]
        found += [PromptPart(method.name, part, n, text) for (part, text), n in zip(parts, counts, strict=True)]
    return found
