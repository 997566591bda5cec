"""The examples of a prompt: cut out of a method's prefix or read from a pool, and chosen for a query."""

import itertools
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import factorial
from typing import Any

from icl_local.exceptions import InputError, needs_extra
from icl_local.identity import draw
from icl_local.prompting.methods import BM25, LanguageSpec, Method
from icl_local.prompting.queries import QuerySet

Pools = Mapping[str, QuerySet]
Ranking = Callable[[str], Sequence[int]]  # the places of all candidates for an instruction, the most wanted first

_STOP_WORDS = ("en", "es", "fr")  # languages whose words bm25s leaves out


@dataclass(frozen=True)
class Example:
    """One query with its answer; ``text`` is how it stands in a prompt, without the line breaks after it."""

    id: str
    instruction: str
    text: str


@dataclass(frozen=True)
class Prefix:
    """A prefix in parts: ``instruction``, examples, and the ``gaps`` of line breaks after the instruction and each."""

    instruction: str
    examples: tuple[Example, ...]
    gaps: tuple[str, ...]

    def parts(self, examples: Sequence[Example], end: str = "\n\n") -> list[str]:
        """Return instruction and examples, each with the line breaks that the file has at its place; the last, ``end``.

        Without any text it is ``end`` alone if there is a file.
        """
        texts = [self.instruction, *(example.text for example in examples)]
        texts[-1] = texts[-1].rstrip("\n")  # an output of a pool may end in line breaks
        gaps = [*self.gaps[:-1], *["\n\n"] * len(texts)][: len(examples)]
        parts = [text + gap for text, gap in zip(texts, [*gaps, end], strict=True) if text]
        return parts or [end] * bool(self.gaps)


def cut(text: str, language: LanguageSpec, file: str) -> Prefix:
    """Return the parts of a prefix, which begin at the lines with the query's heading.

    Raises InputError, with the line, where there is no such heading, or an example without the answer's heading.
    """
    chunks = re.split(f"^(?={re.escape(language.query_heading)})", text, flags=re.MULTILINE)
    bodies = [chunk.rstrip("\n") for chunk in chunks]
    gaps = [chunk[len(body) :] for chunk, body in zip(chunks, bodies, strict=True)]
    examples = []
    for number, body in enumerate(bodies[1:], start=1):
        query, mark, _ = body.removeprefix(language.query_heading).partition(f"\n{language.answer_heading}")
        if not mark:
            line = "".join(chunks[:number]).count("\n") + 1
            raise InputError(f"{file}:{line}: an example without {language.answer_heading!r}; it cannot be cut out")
        examples.append(Example(str(number), query.strip("`\n "), body))
    if not examples:
        raise InputError(f"{file}:1: no line begins with {language.query_heading!r}; it has no examples to choose from")
    return Prefix(bodies[0], tuple(examples), tuple(gaps))


def of_pool(pool: QuerySet, language: str, before: str, after: str) -> tuple[Example, ...]:
    """Return the pool's examples in ``language``, each in a query block. Raises InputError if there are none."""
    closing = "\n```" if after.rstrip().endswith("```") else ""
    found = tuple(
        Example(one.query_id, one.instruction, before + one.instruction + after + one.fields["output"] + closing)
        for one in pool.queries
        if one.language == language
    )
    if not found:
        raise InputError(f"{pool.source}: the pool has no examples in {language!r}; add some with that `language`")
    return found


@dataclass(frozen=True)
class ExampleRule:
    """The rule by which a method's prompts get their examples: its ``own`` ones, then ``k`` of the candidates."""

    method: Method
    own: Sequence[Example]
    candidates: Sequence[Example]
    k: int | None
    language: str

    @cached_property
    def _rank(self) -> Ranking:
        """Return the rule that ranks the candidates: the last first, or by draw, or the nearest to the query first."""
        if self.method.retrieve is not None:
            return _bm25(self.candidates, self.language)
        seed = self.method.seed
        places = range(len(self.candidates))
        fixed = places[::-1] if seed is None else sorted(places, key=lambda n: draw(seed, self.candidates[n].id))
        return lambda instruction: fixed

    def examples(self, instruction: str) -> list[Example]:
        """Return the examples for a query in the order in which the prompt shows them, the nearest last.

        A chosen one of a pool, or a retrieved one, never has the query's own ``instruction``. Raises MissingExtra.
        """
        never = folded(instruction) if self.method.pool or self.method.retrieve else None
        ranked = (n for n in self._rank(instruction) if folded(self.candidates[n].instruction) != never)
        chosen = list(itertools.islice(ranked, self.k))
        order = permuted(chosen[::-1] if self.method.retrieve else sorted(chosen), self.method.order)
        return [*self.own, *(self.candidates[n] for n in order)]


def permuted(chosen: Sequence[int], order: int) -> list[int]:
    """Return permutation ``order`` of the chosen, counted from 0 in lexicographic order of their places."""
    left, found = list(chosen), []
    while order and left:
        place, order = divmod(order % factorial(len(left)), factorial(len(left) - 1))
        found.append(left.pop(place))
    return found + left


def folded(text: str) -> str:
    """Return a text without differences of form, case and spaces."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def retriever_name() -> str:
    """Return BM25 with the version of its library, by which the same pool gives the same examples."""
    return f"{BM25} (bm25s {_bm25s().__version__})"


def _bm25(candidates: Sequence[Example], language: str) -> Ranking:
    """Return the ranking by bm25s's scores, without stemming; equal scores by place, the earlier first."""
    bm25s = _bm25s()

    def words(texts: list[str]) -> list[list[str]]:
        stop_words = language if language in _STOP_WORDS else []
        found: list[list[str]] = bm25s.tokenize(texts, stopwords=stop_words, return_ids=False, show_progress=False)
        return found

    index, corpus = bm25s.BM25(), words([one.instruction for one in candidates])
    if any(corpus):
        index.index(corpus, show_progress=False)

    def rank(instruction: str) -> Sequence[int]:
        known = [word for word in words([instruction])[0] if any(corpus) and word in index.vocab_dict]
        if not known:
            return range(len(candidates))
        order: Sequence[int] = (-index.get_scores(known)).argsort(kind="stable").tolist()
        return order

    return rank


def _bm25s() -> Any:
    with needs_extra("retrieval"):
        import bm25s
    return bm25s
