"""Build the prompt of a query from method and language, and cut the answer out of the raw text.

Everything comes from data files: ``prompts/languages/<code>.toml`` (headings and stop strings), ``prompts/methods/
<name>.toml`` (kind and text before the query) and the texts they name. A user's folder of the same layout (the
overlay) comes first, so a language or a method is added by files alone; docs/prompts.md shows how.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icl_local import resources, toml_file
from icl_local.detect import Answer, find_answer
from icl_local.exceptions import InputError, ModelError, UnknownName
from icl_local.identity import key_of, sha256_text
from icl_local.prompting.chat_template import chat_text
from icl_local.prompting.queries import Query
from icl_local.weights import GgufInfo

COMPLETION, CHAT = "completion", "chat"

# the texts that a method of a kind may name
TEXTS_OF_KIND = {COMPLETION: ("prefix", "block"), CHAT: ("system",)}

# replaces the query while a chat template is rendered; from Unicode's private use area, so no query holds it
_PLACEHOLDER = "\ue0c1query\ue0c2"


@dataclass(frozen=True)
class LanguageSpec:
    """A language: its names, the two headings of a query block, the strings at which an answer stops."""

    code: str
    name: str
    own_name: str
    query_heading: str
    answer_heading: str
    stops: tuple[str, ...]


@dataclass(frozen=True)
class Method:
    """The rule by which a query becomes a prompt.

    ``kind``: completion (raw text for a base model) or chat (the file's own template). ``prefix`` names the text before
    the query block, ``block`` the query block, ``system`` a chat's system message; ``{language}`` in a name is filled.
    """

    name: str
    kind: str
    description: str
    prefix: str | None = None
    block: str = "query_block.txt"
    system: str | None = None


@dataclass(frozen=True)
class Prompt:
    """The whole ``text`` for one query: ``head`` + query + ``tail``, or ``head`` alone if ``tail`` is None.

    ``query_at``: the characters (start, end) of ``text`` that come from the query; None if that is not known.
    """

    text: str
    head: str
    tail: str | None
    stops: tuple[str, ...]
    method: str
    language: str
    system: str | None = None
    query_at: tuple[int, int] | None = None

    @property
    def recipe(self) -> str:
        """Return the key of the method and its prompt text, the same for all queries of a cell.

        A chat's text between the turns comes from the file's own template and its date, which the weights and the
        settings of the cell stand for; so its recipe is the method, the language and the system message.
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
        return {
            "prompt_id": self.prompt_id,
            "method": self.method,
            "language": self.language,
            "head": self.head,
            "tail": self.tail,
            "stops": list(self.stops),
        }


def languages(overlay: Path | None = None) -> dict[str, LanguageSpec]:
    """Return every language that has a file, by code. Raises InputError for a file that cannot be used."""
    return {code: language_spec(code, overlay=overlay) for code in _names("languages", overlay)}


def methods(overlay: Path | None = None) -> dict[str, Method]:
    """Return every method that has a file, by name. Raises InputError for a file that cannot be used."""
    return {name: method_spec(name, overlay=overlay) for name in _names("methods", overlay)}


def language_spec(code: str, *, overlay: Path | None = None) -> LanguageSpec:
    """Return one language. Raises UnknownName, which lists the known ones, and InputError."""
    file, data = _toml("languages", code, overlay)
    return toml_file.build(LanguageSpec, data, file, error=InputError, code=code)


def method_spec(name: str, *, overlay: Path | None = None) -> Method:
    """Return one method. Raises UnknownName, which lists the known ones, and InputError."""
    file, data = _toml("methods", name, overlay)
    method = toml_file.build(Method, data, file, error=InputError, name=name)
    if method.kind not in TEXTS_OF_KIND:
        raise InputError(f'{file}: kind is {method.kind!r}; write "{COMPLETION}" or "{CHAT}"')
    if wrong := {"prefix", "block", "system"} & data.keys() - set(TEXTS_OF_KIND[method.kind]):
        raise InputError(f"{file}: a {method.kind} method does not read {min(wrong)!r}; remove it")
    return method


def build(
    query: Query,
    *,
    method: str,
    language: str,
    info: GgufInfo | None = None,
    chat_date: str | None = None,
    overlay: Path | None = None,
) -> Prompt:
    """Return the prompt of ``query`` by ``method`` in ``language``; ``chat_date`` is YYYY-MM-DD, CHAT_DATE by default.

    A chat method renders ``info``'s own template, a completion method does not use it.
    Raises UnknownName for the names, InputError for prompt files, ModelError for the template.
    """
    how, spec = method_spec(method, overlay=overlay), language_spec(language, overlay=overlay)
    if how.kind == CHAT:
        return _chat(query.instruction, how, language, info, chat_date, overlay)
    head, tail = _completion(how, spec, overlay)
    text = head + query.instruction + tail
    return Prompt(text, head, tail, spec.stops, method, language, query_at=(len(head), len(text) - len(tail)))


def _completion(method: Method, language: LanguageSpec, overlay: Path | None) -> tuple[str, str]:
    """Return the text before and after the query."""
    block = _prompt_text(method, method.block, language.code, overlay)
    for heading in ("query_heading", "answer_heading"):
        block = block.replace(f"{{{heading}}}", getattr(language, heading))
    before, mark, after = block.partition("{query}")
    if not mark or "{query}" in after:
        raise InputError(f"{method.block}: must hold {{query}} exactly once")
    if method.prefix is None:
        return before, after
    return _prompt_text(method, method.prefix, language.code, overlay).rstrip("\n") + "\n\n" + before, after


def _chat(
    instruction: str, method: Method, language: str, info: GgufInfo | None, date: str | None, overlay: Path | None
) -> Prompt:
    """Return the prompt of a chat; if the template changes the query, its head is all of it."""
    if info is None or info.chat_template is None:
        which = "this model" if info is None else info.path.name
        raise ModelError(f"{which} holds no chat template, which {method.name} needs; use an instruct model's file")
    system = None if method.system is None else _prompt_text(method, method.system, language, overlay)
    opening = [] if system is None else [{"role": "system", "content": system.strip("\n")}]

    def render(content: str) -> str:
        return chat_text(info, [*opening, {"role": "user", "content": content}], date=date)

    text = render(instruction)
    head, mark, tail = render(_PLACEHOLDER).partition(_PLACEHOLDER)
    once = bool(mark) and _PLACEHOLDER not in tail
    around = once and text.startswith(head) and text[len(head) :].endswith(tail)
    query_at = (len(head), len(text) - len(tail)) if around else None
    if not once or head + instruction + tail != text:
        return Prompt(text, text, None, (), method.name, language, system, query_at)
    return Prompt(text, head, tail, (), method.name, language, system, query_at)


def _prompt_text(method: Method, name: str, language: str, overlay: Path | None) -> str:
    file = name.replace("{language}", language)
    try:
        return resources.read_text("prompts", file, overlay=overlay)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"method {method.name} has no text for {language!r}: put {file} (UTF-8) into a folder and give it as "
            "--prompt-dir"
        ) from error


def _names(folder: str, overlay: Path | None) -> list[str]:
    return [name.removesuffix(".toml") for name in resources.names("prompts", folder, suffix=".toml", overlay=overlay)]


def _toml(folder: str, name: str, overlay: Path | None) -> tuple[str, dict[str, Any]]:
    known = _names(folder, overlay)
    if name not in known:
        others = {one: one for one in known}
        if folder == "languages":
            others |= {str(_toml(folder, code, overlay)[1].get("name")): code for code in known}
        raise UnknownName.among(
            folder.removesuffix("s"),
            name,
            others,
            add=f"to add one, put {folder}/{name}.toml into a folder and give it as --prompt-dir (docs/prompts.md)",
        )
    file = f"{folder}/{name}.toml"
    try:
        text = resources.read_text("prompts", file, overlay=overlay)
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: is not UTF-8: {error}") from error
    return file, toml_file.parse(text, file, error=InputError)
