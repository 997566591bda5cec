"""A person labels a sample: one answer after the other, blind, with the rubric of the judges.

A rater is a judge of backend ``human``, so a label is a judgment: saving again is a further attempt, and undo is one
too, with the scores that stood before or status ``withdrawn``. What ``save``, ``skip`` and ``undo`` return is on disk.
"""

import contextlib
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from icl_local.exceptions import ConfigError, InputError
from icl_local.identity import judgment_key, key_of
from icl_local.judging import ledger
from icl_local.judging.ledger import Attempt, Task
from icl_local.judging.parse import NOT_APPLICABLE, OK, AspectScore, Verdict, no_verdict
from icl_local.judging.samples import query_order, sample_id_of
from icl_local.judging.template import NA, Template, metric_of, open_templates
from icl_local.results import PageServer, render_page
from icl_local.store import Store
from icl_local.vocabulary import SAMPLED_ERRORS

SKIPPED, WITHDRAWN = "skipped", "withdrawn"
QUERIES_A_BLOCK = 20  # answers to one query lie apart within a block; a stop after it leaves whole queries

_RATER = re.compile(r"[A-Za-z0-9_-]{1,32}")
_LONGEST_COMMENT = 2_000
_LONGEST_SECONDS = 86_400


@dataclass(eq=False)
class Item:
    """One answer to one query, with the judgments of every drawn response that has this text.

    ``given``: the verdicts that were not taken back, the standing one last.
    """

    number: int
    response_id: str
    template: Template
    instruction: str
    text: str
    tasks: dict[str, Task]
    given: list[Verdict] = field(default_factory=list)

    @property
    def marks(self) -> list[int | str]:
        """Return what a rater can give: the scores, and N/A unless they say yes or no."""
        yes_or_no = 0 in self.template.scale
        return [*self.template.scale] if yes_or_no else [*self.template.scale, NA]

    @property
    def state(self) -> str:
        """Return open, rated or skipped; open also where a response with this text was drawn since."""
        if not self.given or any(task.attempt == 1 for task in self.tasks.values()):
            return "open"
        return SKIPPED if self.given[-1].status == SKIPPED else "rated"


class Rating:
    """One rater's work on a sample, safe to use from several threads; ``open_rating`` opens it."""

    def __init__(self, target: Store, sample: str, sample_id: str, rater: str, overlay: Path | None) -> None:
        self.sample, self.rater = sample, rater
        self.judge = _judge_row(rater)
        self._target = target
        self._lock = threading.Lock()
        self._put_context = False
        with target.reading():
            rows = target.named("sample_answers", [sample_id]).dicts()
            attempts = target.named("human_attempts", [self.judge["judge_id"], sample_id]).dicts()
        self.items = _ordered(rows, rater=rater, overlay=overlay, judge_id=str(self.judge["judge_id"]))
        self._by_id = {item.response_id: item for item in self.items}
        self._done: list[Item] = []  # items of the verdicts that were not taken back, in their order
        self._read(attempts)

    def progress(self, after: int = -1) -> dict[str, Any]:
        """Return the counts and ``next``: the first open item, else the first skipped one after ``after``, or None."""
        states = [item.state for item in self.items]
        skipped = [number for number, state in enumerate(states) if state == SKIPPED]
        following = [number for number in skipped if number > after] or skipped
        first = states.index("open") if "open" in states else next(iter(following), None)
        return {"items": len(states), "rated": states.count("rated"), "skipped": len(skipped), "next": first}

    def item(self, number: int) -> dict[str, Any]:
        """Return what a rater may see of an item, with the rater's own standing verdict. Raises InputError."""
        if not 0 <= number < len(self.items):
            raise InputError(f"item {number} does not exist")
        item = self.items[number]
        standing = item.given[-1].aspects if item.given and item.given[-1].status != SKIPPED else ()
        return {
            "id": item.response_id,
            "number": number,
            "query": item.instruction,
            "answer": item.text,
            "state": item.state,
            "aspects": aspects_of(item.template),
            "marks": item.marks,
            "scale": list(item.template.scale.values()),
            "scores": {one.metric: NA if one.not_applicable else one.score for one in standing},
            "comments": {one.metric: one.reason for one in standing if one.reason},
        }

    def save(self, posted: Any) -> dict[str, Any]:
        """Store a verdict: ``id``, ``scores`` by metric, ``comments`` by metric, ``seconds``. Raises InputError."""
        item = self._posted_item(posted)
        scores, comments = posted.get("scores"), posted.get("comments", {})
        metrics = item.template.metrics
        if not isinstance(scores, dict) or sorted(scores) != sorted(metrics):
            raise InputError(f"a verdict needs a score for each of {', '.join(metrics)}")
        if not all(type(score) in (int, str) and score in item.marks for score in scores.values()):
            raise InputError(f"a score is one of {', '.join(map(str, item.marks))}")
        if not isinstance(comments, dict) or not all(
            isinstance(text, str) and len(text) <= _LONGEST_COMMENT for text in comments.values()
        ):
            raise InputError(f"a comment is a text of at most {_LONGEST_COMMENT:,} characters")
        given = {metric: None if score == NA else float(score) for metric, score in scores.items()}
        aspects = (AspectScore(one, given[one], given[one] is None, comments.get(one) or None) for one in metrics)
        status = NOT_APPLICABLE if None in given.values() else OK
        return self._give(item, Verdict(status, tuple(aspects)), _seconds(posted))

    def skip(self, posted: Any) -> dict[str, Any]:
        """Store that the rater leaves the item ``id`` for later. Raises InputError."""
        item = self._posted_item(posted)
        return self._give(item, no_verdict(SKIPPED, item.template.aspects, None), _seconds(posted))

    def undo(self, posted: Any = None) -> dict[str, Any]:
        """Take back the last verdict or skip that stands, also of an earlier session; return its item as ``number``.

        Raises InputError if there is none.
        """
        with self._lock:
            if not self._done:
                raise InputError("there is nothing to undo")
            item = self._done[-1]
            before = item.given[-2] if len(item.given) > 1 else no_verdict(WITHDRAWN, item.template.aspects, None)
            self._put(item, before, {"parameters": {"undoes": len(item.given)}})
            self._take_back(item)
            return {**self.progress(item.number), "number": item.number}

    def _give(self, item: Item, verdict: Verdict, seconds: float | None) -> dict[str, Any]:
        with self._lock:
            self._put(item, verdict, {"seconds": seconds})
            item.given.append(verdict)
            self._done.append(item)
            return self.progress(item.number)

    def _put(self, item: Item, verdict: Verdict, columns: Mapping[str, object]) -> None:
        """Store one more attempt at the judgments of an item, all or none."""
        if not self._put_context:
            self._target.put(ledger.context_records(self.judge, (one.template for one in self.items)))
            self._put_context = True
        attempts = [Attempt(task, verdict, columns=columns) for task in item.tasks.values()]
        self._target.put([attempt.record(str(self.judge["judge_id"])) for attempt in attempts])
        item.tasks = {key: replace(task, attempt=task.attempt + 1) for key, task in item.tasks.items()}

    def _read(self, rows: list[dict[str, Any]]) -> None:
        """Follow the stored attempts; those of one put share their time, and are one verdict."""
        of = {key: item for item in self.items for key in item.tasks}
        last: dict[int, object] = {}
        for row in rows:
            item = of.get(row["judgment_id"])
            if item is None:  # by another rubric
                continue
            task = item.tasks[row["judgment_id"]]
            item.tasks[task.judgment_id] = replace(task, attempt=max(row["attempt"] + 1, task.attempt))
            if last.get(item.number) == row["created_at"]:
                continue
            last[item.number] = row["created_at"]
            if row["undoes"]:
                self._take_back(item)
            else:
                item.given.append(_verdict(item.template, row))
                self._done.append(item)

    def _take_back(self, item: Item) -> None:
        """Drop the last verdict of an item: not always the last of all, where it was undone in another sample."""
        if item.given:
            item.given.pop()
            del self._done[len(self._done) - 1 - self._done[::-1].index(item)]

    def _posted_item(self, posted: Any) -> Item:
        item = self._by_id.get(str(posted.get("id"))) if isinstance(posted, dict) else None
        if item is None:
            raise InputError("this answer is not one of the sample's")
        return item


@contextlib.contextmanager
def open_rating(path: Path, sample: str, rater: str, *, overlay: Path | None = None) -> Iterator[Rating]:
    """Open the work of ``rater`` on the latest sample of that name; it resumes where the rater stopped.

    ``overlay``: folder of the judges' prompts. Raises ConfigError for a name that cannot be a rater's, UnknownName for
    another sample, JudgeError while the rater has another page open, StoreError.
    """
    if not _RATER.fullmatch(rater):
        raise ConfigError(f"{rater!r} cannot be a rater: use 1 to 32 letters, digits, _ or -")
    sample_id = sample_id_of(path, sample)
    message = f"{rater} rates {path} on another page; close that `icl browse` first"
    with ledger.only_judge(path, str(_judge_row(rater)["judge_id"]), message=message), Store(path) as target:
        yield Rating(target, sample, sample_id, rater, overlay)


def rating_page(rating: Rating, *, port: int = 0) -> PageServer:
    """Return the server of the page on which ``rating`` is done; its routes show nothing else of the database."""
    page = {"title": f"Rating {rating.sample}", "sample": rating.sample, "rater": rating.rater}
    return PageServer(
        {
            "": lambda _: render_page(page, mode="rate"),
            "progress": lambda _: rating.progress(),
            "item": lambda rest: rating.item(int(rest) if rest.isdecimal() else -1),
        },
        {"save": rating.save, "skip": rating.skip, "undo": rating.undo},
        port=port,
    )


def aspects_of(template: Template) -> list[dict[str, str]]:
    """Return metric, title and line of each aspect: the template's text after ``- Title:``, or "" without one."""
    lines = dict(re.findall(r"^- (\w[^:\n]*): *(.*)$", template.text, flags=re.MULTILINE))
    titles = {aspect: aspect.replace("_", " ").title() for aspect in template.aspects}
    return [
        {"metric": metric_of(aspect), "title": title, "line": lines.get(title, "")} for aspect, title in titles.items()
    ]


def _judge_row(rater: str) -> dict[str, object]:
    judge_id = key_of(kind="judge", backend="human", rater=rater)
    return {"judge_id": judge_id, "name": f"human:{rater}", "backend": "human", "model": rater, "settings": {}}


def _ordered(rows: list[dict[str, Any]], *, rater: str, overlay: Path | None, judge_id: str) -> list[Item]:
    """Return the items in the rater's order: blocks of queries, and within a block by a key of the rater."""
    templates = open_templates("published", overlay=overlay)
    orders = sorted({query_order(row["seed"], row) for row in rows})
    blocks = {order: place // QUERIES_A_BLOCK for place, order in enumerate(orders)}
    same: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in rows:
        same.setdefault(tuple(row[name] for name in ("language", "split", "instruction", "text")), []).append(row)

    def place(group: list[dict[str, Any]]) -> tuple[int, str]:
        block = min(blocks[query_order(row["seed"], row)] for row in group)
        return block, key_of(seed=group[0]["seed"], rater=rater, response_id=group[0]["response_id"])

    items = []
    for number, group in enumerate(sorted(same.values(), key=place)):
        first = group[0]
        split = f"errors.{first['strata']}" if first["strata"] in SAMPLED_ERRORS else first["split"]
        template = templates.get(split=split, language=first["language"])
        key_for = partial(judgment_key, judge_id=judge_id, template_sha256=template.sha256, repeat=0)
        keys = {key_for(response_id=row["response_id"]): row["response_id"] for row in group}
        tasks = {key: Task(key, 1, response_id, template, 0) for key, response_id in keys.items()}
        items.append(Item(number, first["response_id"], template, first["instruction"], first["text"], tasks))
    return items


def _verdict(template: Template, row: Mapping[str, Any]) -> Verdict:
    given = zip(template.metrics, row["scores"], row["not_applicable"], row["reasons"], strict=True)
    return Verdict(row["status"], tuple(AspectScore(*one) for one in given))


def _seconds(posted: Mapping[str, Any]) -> float | None:
    seconds = posted.get("seconds")
    valid = isinstance(seconds, int | float) and 0 <= seconds <= _LONGEST_SECONDS
    return float(seconds) if valid and seconds is not None else None
