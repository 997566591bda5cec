"""The judge's prompts: the text for each response, its aspects, and the form of the verdict.

prompts/judge.multi.txt is the paper's six-aspect prompt (appendix E), judge.safety.txt this project's own. Two changes
are derived: English has no language consistency (the paper used just-eval's prompt there: docs/deviations.md), and
``rubric-first`` moves query and answer behind the rubric, so that a local judge decodes the rubric once for all
responses. A user's folder (--prompt-dir) can replace a text, also for a single language (judge.multi.fr.txt). The hash
of the text is part of every judgment's key.
"""

import ast
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from icl_local import resources
from icl_local.exceptions import ConfigError, InputError
from icl_local.identity import sha256_text

VARIANTS = ("published", "rubric-first")
LANGUAGE_ASPECT = "language_consistency"
NA = "N/A"
SCORES = (1, 2, 3, 4, 5)

_PLACEHOLDER = re.compile(r"\$\{(instruction|candidate)\}")
_ASPECT = re.compile(r'"(\w+)"\s*:\s*\{\s*"reason"')
_SCALE = re.compile(r"^- ([0-5]): *(.*)$", re.MULTILINE)
_PARTS = re.compile(r"(?P<opening>.*?)(?P<case>^## Query:.*?)(?P<rubric>^## Evaluate.*)", re.DOTALL | re.MULTILINE)
_JUST_EVAL_NAMES = {"MULTI_SCORE_TEMPLATE": "multi", "SAFETY_SCORE_TEMPLATE": "safety"}


@dataclass(frozen=True)
class Template:
    """One judge prompt with the placeholders ``${instruction}`` and ``${candidate}``.

    ``language`` is None if the text is for every language without a text of its own.
    """

    name: str
    text: str
    language: str | None = None

    def __post_init__(self) -> None:
        missing = {"instruction", "candidate"} - set(_PLACEHOLDER.findall(self.text))
        if missing:
            raise InputError(
                f"judge prompt {self.name}: has no ${{{min(missing)}}}; insert it at the place of that text"
            )
        if not self.aspects:
            raise InputError(f'judge prompt {self.name}: shows no JSON form such as {{"clarity": {{"reason": ...')
        if len(set(self.metrics)) < len(self.metrics):
            raise InputError(f"judge prompt {self.name}: asks for the same metric by two names; leave one out")

    @cached_property
    def aspects(self) -> tuple[str, ...]:
        """Return the keys of the verdict's JSON form, in order."""
        return tuple(dict.fromkeys(_ASPECT.findall(self.text)))

    @property
    def metrics(self) -> list[str]:
        """Return the metrics under which the aspects are stored."""
        return [metric_of(aspect) for aspect in self.aspects]

    @cached_property
    def scale(self) -> dict[int, str]:
        """Return what the text says of each score, "" if nothing: of 0 and 1 where it describes 0, else of 1 to 5."""
        lines = {int(score): line for score, line in _SCALE.findall(self.text)}
        return {score: lines.get(score, "") for score in ((0, 1) if 0 in lines else SCORES)}

    @cached_property
    def sha256(self) -> str:
        """Return 64 hex digits of the text: the template's version."""
        return sha256_text(self.text)

    def fill(self, instruction: str, candidate: str) -> str:
        """Return the prompt; text like a placeholder inside query or answer stays unchanged."""
        values = {"instruction": instruction, "candidate": candidate}
        return _PLACEHOLDER.sub(lambda found: values[found[1]], self.text)

    def row(self) -> dict[str, object]:
        """Return the row of raw.judge_templates."""
        return {
            "template_sha256": self.sha256,
            "name": self.name,
            "language": self.language,
            "text": self.text,
            "metrics": self.metrics,
        }


@dataclass(frozen=True)
class Templates:
    """The prompts of one judge: a ``variant`` of the built-in texts, or of those in the user's folder ``overlay``.

    ``just_eval``: just-eval's texts by split, used unchanged for every language.
    """

    variant: str = VARIANTS[0]
    overlay: Path | None = None
    just_eval: tuple[Template, ...] = ()
    _made: dict[tuple[str, str], Template] = field(default_factory=dict, compare=False, repr=False)

    def get(self, *, split: str, language: str) -> Template:
        """Return the template for a response of ``split`` in ``language``. Raises InputError if there is none."""
        if (split, language) not in self._made:
            self._made[split, language] = self._make(split, language)
        return self._made[split, language]

    def _make(self, split: str, language: str) -> Template:
        name, only = split, None
        own = f"judge.{split}.{language}.txt"
        if self.just_eval:
            name = f"just-eval.{split}"
            text = next((one.text for one in self.just_eval if one.name == name), "")
            if not text:
                raise InputError(f"the given just-eval template has no {split} prompt; add one, or judge with --split")
        elif self.overlay is not None and (self.overlay / own).is_file():
            text, only = resources.read_text("prompts", own, overlay=self.overlay), language
        else:
            text = resources.read_text("prompts", f"judge.{split}.txt", overlay=self.overlay)
            if language == "en" and LANGUAGE_ASPECT in _ASPECT.findall(text):
                text, only = without_language(text), language
        if self.variant == "rubric-first":
            name, text = f"{name}.rubric-first", rubric_first(text)
        return Template(name, text, only)


def open_templates(variant: str, *, overlay: Path | None = None, sources: Sequence[str] = ()) -> Templates:
    """Open the requested prompts; ``sources`` are texts ``just-eval=PATH``. Raises ConfigError, InputError."""
    if variant not in VARIANTS:
        raise ConfigError(f"no variant {variant!r}; there are {', '.join(VARIANTS)}")
    found: list[Template] = []
    for source in sources:
        kind, _, path = source.partition("=")
        if kind != "just-eval" or not path:
            raise ConfigError(f"cannot read --template {source!r}; write just-eval=PATH")
        found.extend(just_eval_templates(Path(path)))
    return Templates(variant, overlay, tuple(found))


def metric_of(aspect: str) -> str:
    """Return the metric under which an aspect of a verdict is stored."""
    return "language" if aspect == LANGUAGE_ASPECT else aspect


def without_language(text: str) -> str:
    """Return the prompt without language consistency: its name in the opening, its line in the rubric, its JSON entry.

    Raises InputError unless the text names the aspect exactly once in each of these three places.
    """
    edits = (
        (r"(, [^,.]+?),? and Language Consistency\.", lambda found: re.sub(r"^, ", " and ", found[1]) + "."),
        (r"^- Language Consistency: .*\n", ""),
        (rf',(\s*)"{LANGUAGE_ASPECT}"\s*:\s*\{{[^{{}}]*\}}', ""),
    )
    for pattern, replacement in edits:
        text, count = re.subn(pattern, replacement, text, flags=re.MULTILINE)
        if count != 1:
            raise InputError(
                "the judge prompt does not name 'Language Consistency' as the published one does; write a text for "
                "English: judge.multi.en.txt in --prompt-dir"
            )
    return text


def rubric_first(text: str) -> str:
    """Return the text with query and answer at the end. Raises InputError if the headings are missing."""
    parts = _PARTS.fullmatch(text)
    if parts is None:
        raise InputError("rubric-first needs the headings `## Query:` and `## Evaluate` in the judge prompt")
    return f"{parts['opening']}{parts['rubric'].rstrip()}\n\n{parts['case'].rstrip()}\n\n## Scores in json:\n"


def just_eval_templates(path: Path) -> tuple[Template, ...]:
    """Return just-eval's templates from a clone of its repository or from one of its judgment files.

    A clone's Python files are parsed, not run. Raises InputError if ``path`` has no template.
    """
    if path.is_dir():
        found = {}
        for file in sorted([*path.glob("*.py"), *path.glob("just_eval/*.py")]):
            found.update(_assigned(file))
        if not found:
            raise InputError(f"{path}: no MULTI_SCORE_TEMPLATE or SAFETY_SCORE_TEMPLATE in its Python files")
        return tuple(Template(f"just-eval.{split}", text) for split, text in sorted(found.items()))
    try:
        items = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: is neither a clone of just-eval nor one of its judgment files ({error})") from error
    return (template_of_items(items, str(path)),)


def template_of_items(items: object, file: str) -> Template:
    """Return the template of all judgments in a file of just-eval, derived from their prompts."""
    rows = [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []
    fields = [tuple(row.get(key) for key in ("prompt", "input", "output_cand")) for row in rows]
    filled = [(p, i, o) for p, i, o in fields if isinstance(p, str) and isinstance(i, str) and isinstance(o, str)]
    for prompt, instruction, candidate in filled:
        text = _unfilled(prompt, instruction, candidate)
        if text is None:
            continue
        made = Template("peer", text)
        if all(made.fill(i, o) == p for p, i, o in filled):
            split = "safety" if _ASPECT.findall(text) == ["safety"] else "multi"
            return Template(f"just-eval.{split}", text)
    raise InputError(f"{file}: no template fits all its prompts; is it a judgment file of just-eval?")


def verdict_schema(aspects: Sequence[str], *, reason_chars: int | None = None) -> dict[str, object]:
    """Return the JSON schema of a verdict: each aspect with a reason and a whole score from 1 to 5, or "N/A".

    The paper's prompt does not offer "N/A" (docs/deviations.md); judges write it, and a schema without it would force
    a score. ``reason_chars``: the longest reason in characters, where a model can be held to one.
    """
    score = {"anyOf": [{"type": "integer", "enum": list(SCORES)}, {"type": "string", "enum": [NA]}]}
    limit = {} if reason_chars is None else {"maxLength": reason_chars}
    aspect = _object({"reason": {"type": "string", **limit}, "score": score})
    return _object(dict.fromkeys(aspects, aspect))


def _object(properties: dict[str, object]) -> dict[str, object]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _assigned(file: Path) -> dict[str, str]:
    """Return the texts assigned to just-eval's two names in a Python file."""
    try:
        tree = ast.parse(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, SyntaxError, RecursionError):
        return {}
    return {
        _JUST_EVAL_NAMES[target.id]: node.value.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name) and target.id in _JUST_EVAL_NAMES
    }


def _unfilled(prompt: str, instruction: str, candidate: str) -> str | None:
    """Return the prompt with placeholders for query and answer under their headings; None if they are not found."""
    query_at = prompt.find(instruction, prompt.find("## Query:"))
    answer_at = prompt.find(candidate, prompt.find("## Output:", query_at + len(instruction)))
    if min(query_at, answer_at) < 0 or not instruction or not candidate:
        return None
    between = prompt[query_at + len(instruction) : answer_at]
    text = f"{prompt[:query_at]}${{instruction}}{between}${{candidate}}{prompt[answer_at + len(candidate) :]}"
    return text if _ASPECT.search(text) else None
