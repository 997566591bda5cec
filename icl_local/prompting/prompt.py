"""Build the prompt of a query from method and language, and cut the answer out of the raw text.

Everything comes from files in prompts/; those of a user's folder of the same layout (the overlay) come first.
docs/prompts.md has their layout.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import factorial
from pathlib import Path

from icl_local import resources
from icl_local.detect import Answer, find_answer
from icl_local.exceptions import ConfigError, InputError, ModelError, UnknownName, refuse
from icl_local.identity import key_of, sha256_text
from icl_local.prompting.chat_template import chat_text
from icl_local.prompting.examples import Example, ExampleRule, Pools, Prefix, cut, of_pool, retriever_name
from icl_local.prompting.methods import (
    BM25,
    MOST,
    NO_INSTRUCTION,
    PARAMETERS,
    LanguageSpec,
    Method,
    combinations,
    language_spec,
    method_spec,
    written,
)
from icl_local.prompting.queries import Query
from icl_local.weights import CHAT, COMPLETION, GgufInfo
from icl_local.wording import counted

# replaces the query while a chat template is rendered; from Unicode's private use area, so no query holds it
_PLACEHOLDER = "\ue0c1query\ue0c2"


@dataclass(frozen=True)
class Prompt:
    """The whole ``text`` for one query: ``head`` + query + ``tail``, or ``head`` alone if ``tail`` is None.

    ``query_at``: the characters (start, end) of ``text`` that come from the query; None if that is not known.
    ``examples``: the ids of its examples, those of a prefix numbered from 1; None if they are not known.
    """

    text: str
    head: str
    tail: str | None
    stops: tuple[str, ...]
    method: str
    language: str
    system: str | None = None
    query_at: tuple[int, int] | None = None
    examples: tuple[str, ...] | None = None

    @property
    def recipe(self) -> str:
        """Return the key of the method and its prompt text, the same for all queries of a cell.

        A chat's text between the turns comes from the file's own template and its date, which the weights and the
        settings of the cell identify; so its recipe is the method, the language and the system message.
        """
        if self.stops:
            return self.prompt_id
        system = "" if self.system is None else ":" + sha256_text(self.system)
        return f"chat:{self.method}:{self.language}{system}"

    @property
    def prompt_id(self) -> str:
        """Return the key of method, language, head, tail and stops: the same within a cell if tail is not None."""
        return key_of(
            kind="prompt", method=self.method, language=self.language, head=self.head, tail=self.tail, stops=self.stops
        )

    @property
    def sha256(self) -> str:
        """Return 64 hex digits of ``text``."""
        return sha256_text(self.text)

    def answer(self, raw_text: str) -> Answer:
        """Return the answer in what a model wrote after this prompt; a chat model's is the whole text."""
        return find_answer(raw_text, stops=self.stops, prompt_tail=self.tail)

    def row(self) -> dict[str, object]:
        """Return the row of raw.prompts."""
        columns = ("prompt_id", "method", "language", "head", "tail", "stops", "examples")
        return {name: getattr(self, name) for name in columns}


class Recipe:
    """A method, by its name, in a language, its texts read: it makes the prompt of each query.

    ``method``, the attribute, has its shortest name: a parameter that has its default is left out.
    ``k``: the number of chosen examples; None for a chat, and for a prefix that is taken whole.

    Raises UnknownName for a language or a pool, InputError for files, ConfigError for parameters, MissingExtra.
    """

    def __init__(self, name: str, language: str, *, overlay: Path | None = None, pools: Pools | None = None) -> None:
        self.method = method = method_spec(name, overlay=overlay)
        self.language = language
        self.k: int | None = None
        self.retriever: str | None = None
        self.pool_sha256: str | None = None
        self._overlay = overlay
        self._texts_in = method.lang or language
        spec, own = (language_spec(code, overlay=overlay) for code in (self._texts_in, language))
        self._stops = tuple(dict.fromkeys((*spec.stops, *own.stops)))
        if method.kind == COMPLETION:
            self._before, self._after = self._block(spec)
            self._prefix = self._read_prefix(spec)
            self._candidates: Sequence[Example] = self._prefix.examples
            if method.pool is not None:
                self._candidates = self._read_pool(method.pool, pools or {})
            if self._candidates or method.in_brackets or method.prefix is None:
                self.k = len(self._candidates) if method.k is None else method.k
                self._check(self.k)
                self.method = self._shortest(self.k)
                self.retriever = retriever_name() if method.retrieve else None
            own_examples = self._prefix.examples if method.own else ()
            self._rule = ExampleRule(method, own_examples, self._candidates, self.k, self._texts_in)

    def prompt(self, query: Query, *, info: GgufInfo | None = None, chat_date: str | None = None) -> Prompt:
        """Return the prompt of ``query``; ``chat_date`` is YYYY-MM-DD, CHAT_DATE by default.

        A chat method renders ``info``'s own template, a completion method does not use it. Raises ModelError for the
        template.
        """
        if self.method.kind == CHAT:
            return self._chat(query.instruction, info, chat_date)
        examples = self._rule.examples(query.instruction)
        head = "".join(self._prefix.parts(examples)) + self._before
        text = head + query.instruction + self._after
        return Prompt(
            text, head, self._after, self._stops, self.method.name, self.language,
            query_at=(len(head), len(text) - len(self._after)),
            examples=None if self.k is None else tuple(one.id for one in examples),
        )  # fmt: skip

    def parts(self, query: Query, *, info: GgufInfo | None = None) -> list[tuple[str, str]]:
        """Return the prompt of ``query`` in parts with their names: before the examples, each example, the query."""
        if self.method.kind == CHAT:
            return [("chat", self.prompt(query, info=info).text)]
        examples = self._rule.examples(query.instruction)
        texts = self._prefix.parts(examples)
        names = [*["before"] * (len(texts) - len(examples)), *(f"example {one.id}" for one in examples)]
        return [*zip(names, texts, strict=True), ("query", self._before + query.instruction + self._after)]

    def key(self, prompt: Prompt) -> str:
        """Return what a cell's prompts have in common, as a key: with a pool they may differ in their examples."""
        if self.method.pool is None and self.method.retrieve is None:
            return prompt.recipe
        prefix = self._prefix.parts(self._prefix.examples, end="".join(self._prefix.gaps[-1:]))
        return key_of(
            kind="recipe", method=self.method.name, language=self.language, stops=self._stops, prefix="".join(prefix),
            block=[self._before, self._after], pool=self.pool_sha256, retriever=self.retriever,
        )  # fmt: skip

    def row(self, recipe: str) -> dict[str, object]:
        """Return the row of raw.methods; ``recipe`` is the key of the cell's prompts."""
        completion = self.method.kind == COMPLETION
        return {
            "recipe": recipe,
            "method": self.method.name,
            "base_method": self.method.base,
            "k": self.k,
            "ordering": self.method.order if completion else None,
            "seed": self.method.seed,
            "example_language": self._texts_in if self.k else None,
            "instruction": (self.method.instruction or self._texts_in) if self.method.prefix else None,
            "pool": self.method.pool,
            "pool_sha256": self.pool_sha256,
            "retriever": self.retriever,
        }

    def _check(self, k: int) -> None:
        """Raise ConfigError for parameters that do not go together."""
        method, available = self.method, len(self._candidates)
        of = f"the pool {method.pool}" if method.pool else method.base
        nearest_or_drawn = method.retrieve is not None or method.seed is not None
        refuse({
            f"k is {k}, but {of} has {counted(available, 'example')} in {self._texts_in!r}": k > available,
            "seed and retrieve choose k examples; give k": nearest_or_drawn and method.k is None,
            "retrieve chooses and orders the examples; leave seed and order out":
                method.retrieve is not None and (method.seed is not None or method.order > 0),
            f"retrieve is {method.retrieve!r}; write {BM25}": method.retrieve not in (None, BM25),
            "seeds begin at 1": method.seed == 0,
            "own=yes keeps the own examples before those of a pool; give a pool": method.own and method.pool is None,
            "without examples and instruction this is zero-shot; write zero-shot":
                k == 0 and not method.own and method.instruction == NO_INSTRUCTION,
            f"order is {method.order}, but {counted(k, 'example')} can be ordered in {k}! ways, counted from 0":
                method.order >= factorial(min(k, available)),
        }, about=f"{method.name}: ")  # fmt: skip

    def _shortest(self, k: int) -> Method:
        """Return the method by its shortest name, without parameters that have their default."""
        method = self.method
        if not method.in_brackets:
            return method
        file = method_spec(method.base, overlay=self._overlay)
        counts_as = {"k": len(self._candidates), "lang": self.language, "instruction": self._texts_in}
        changed = {}
        for key in PARAMETERS:
            value, default = getattr(method, key), getattr(file, key)
            value = counts_as.get(key) if value is None else value
            default = counts_as.get(key) if default is None else default
            if value != default or (key == "k" and (method.seed is not None or method.retrieve is not None)):
                changed[key] = ("yes" if value else "no") if isinstance(value, bool) else str(value)
        return replace(method, name=written(method.base, changed))

    def _block(self, spec: LanguageSpec) -> tuple[str, str]:
        """Return the text of the query block before and after the query."""
        block = self._text(self.method.block, spec.code)
        for heading in ("query_heading", "answer_heading"):
            block = block.replace(f"{{{heading}}}", getattr(spec, heading))
        before, mark, after = block.partition("{query}")
        if not mark or "{query}" in after:
            raise InputError(f"{self.method.block}: must hold {{query}} exactly once")
        return before, after

    def _read_prefix(self, spec: LanguageSpec) -> Prefix:
        """Return the prefix in parts; one without parameters is taken whole where it cannot be cut."""
        method = self.method
        if method.prefix is None:
            if method.instruction is not None:
                raise ConfigError(f"{method.name}: {method.base} has no instruction text; leave instruction out")
            return Prefix("", (), ())
        try:
            prefix = self._cut(method.prefix, spec)
        except InputError:
            if any(getattr(method, key) != getattr(Method, key) for key in PARAMETERS if key != "lang"):
                raise
            return Prefix(self._text(method.prefix, spec.code).rstrip("\n"), (), ("",))
        if method.instruction is None:
            return prefix
        if method.instruction == NO_INSTRUCTION:
            return replace(prefix, instruction="")
        other = self._cut(method.prefix, language_spec(method.instruction, overlay=self._overlay))
        return replace(prefix, instruction=other.instruction)

    def _cut(self, name: str, spec: LanguageSpec) -> Prefix:
        return cut(self._text(name, spec.code), spec, name.replace("{language}", spec.code))

    def _read_pool(self, name: str, pools: Pools) -> tuple[Example, ...]:
        if name not in pools:
            raise UnknownName.among("pool", name, list(pools), add=f"give it with --pool {name}=FILE")
        found = of_pool(pools[name], self._texts_in, self._before, self._after)
        self.pool_sha256 = sha256_text("\0".join(f"{one.id}\0{one.text}" for one in found))
        return found

    def _text(self, name: str, language: str) -> str:
        file = name.replace("{language}", language)
        try:
            return resources.read_text("prompts", file, overlay=self._overlay)
        except OSError as error:
            raise InputError(
                f"method {self.method.base} has no text for {language!r}: put {file} into a folder and give it as "
                "--prompt-dir"
            ) from error

    def _chat(self, instruction: str, info: GgufInfo | None, date: str | None) -> Prompt:
        """Return the prompt of a chat; if the template changes the query, its head is all of it."""
        method, language = self.method, self.language
        if info is None:
            raise ModelError(f"{method.name} needs the chat template of a model's file; give --model")
        if info.chat_template is None:
            raise ModelError(
                f"{info.path.name} holds no chat template, which {method.name} needs; use an instruct model's file"
            )
        system = None if method.system is None else self._text(method.system, language)
        opening = [] if system is None else [{"role": "system", "content": system.strip("\n")}]

        def render(content: str) -> str:
            return chat_text(info, [*opening, {"role": "user", "content": content}], date=date)

        text = render(instruction)
        head, mark, tail = render(_PLACEHOLDER).partition(_PLACEHOLDER)
        once = bool(mark) and _PLACEHOLDER not in tail
        around = once and text.startswith(head) and text[len(head) :].endswith(tail)
        query_at = (len(head), len(text) - len(tail)) if around else None
        if once and head + instruction + tail == text:
            return Prompt(text, head, tail, (), method.name, language, system, query_at)
        return Prompt(text, text, None, (), method.name, language, system, query_at)


def expand(
    names: Sequence[str], language: str, *, overlay: Path | None = None, pools: Pools | None = None
) -> list[Recipe]:
    """Return the recipes of the methods that the names stand for in ``language``, each once, at most MOST.

    Raises UnknownName, InputError, ConfigError and MissingExtra.
    """
    recipe = partial(Recipe, language=language, overlay=overlay, pools=pools)
    found: dict[str, Recipe] = {}
    for name in itertools.chain.from_iterable(map(combinations, names)):
        every_order = [name]
        if "order=*" in name:
            k = recipe(name.replace("order=*", "order=0")).k or 0
            every_order = [name.replace("order=*", f"order={n}") for n in range(min(factorial(k), MOST + 1))]
        for one in every_order:
            made = recipe(one)
            found[made.method.name] = made
            if len(found) > MOST:
                raise ConfigError(f"{', '.join(names)}: stands for more than {MOST} methods; take fewer values")
    return list(found.values())
