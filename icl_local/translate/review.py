"""A reviewer's decisions on candidates: accept, edit, skip, undo. Each is a row of raw.reviews that never changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from icl_local import store
from icl_local.exceptions import ConfigError, needs_extra
from icl_local.identity import key_of

ACCEPT, EDIT, SKIP, UNDO = "accept", "edit", "skip", "undo"


@dataclass(frozen=True)
class Candidate:
    """A machine translation of one query and the names of the checks that fired on it."""

    translation_id: str
    engine: str
    text: str
    flags: list[str]


@dataclass(frozen=True)
class ReviewItem:
    """A query to review in one language; ``candidates`` come best first.

    ``status``: open | skipped | accepted | edited. ``final_text`` is None for the first two.
    """

    dataset: str
    query_id: str
    language: str
    status: str
    source_text: str
    final_text: str | None
    reviewed_translation_id: str | None
    reviewer: str | None
    candidates: tuple[Candidate, ...]

    @property
    def first_candidate(self) -> Candidate:
        """Return the candidate that became the final text, edited or not; the best one where there is none yet."""
        of_final = None if self.final_text is None else self.reviewed_translation_id
        return next((one for one in self.candidates if one.translation_id == of_final), self.candidates[0])


def items(path: Path, *, language: str, dataset: str | None = None, decided: bool = False) -> list[ReviewItem]:
    """Return the queries to review, in the order of review_rank; ``decided`` adds those accepted or edited.

    Raises ConfigError if there is no candidate in that language.
    """
    rows = store.named(path, "translation_queue", [language, dataset]).dicts()
    if not rows:
        raise no_candidates(path, language)
    found = [ReviewItem(**{**row, "candidates": tuple(Candidate(**one) for one in row["candidates"])}) for row in rows]
    return [item for item in found if decided or item.status in ("open", "skipped")]


def no_candidates(path: Path, language: str) -> ConfigError:
    """Return the error for a language that has no candidate."""
    return ConfigError(f"no candidates in {language!r} in {path}; make some with: icl translate run --to {language}")


class Review:
    """One reviewer's session: the open queries in ``language``, one after the other, skipped ones last.

    A context manager. ``decided`` adds queries that were accepted or edited before. The database is open only while a
    decision is written, so that other programs can use it. Raises ConfigError like ``items``.
    """

    def __init__(
        self, path: Path, *, language: str, reviewer: str, dataset: str | None = None, decided: bool = False
    ) -> None:
        self._waiting = items(path, language=language, dataset=dataset, decided=decided)
        self._done: list[tuple[ReviewItem, dict[str, object]]] = []
        self._reviewer = reviewer
        self._store = store.Store(path, flush_rows=1)

    def __enter__(self) -> Review:
        return self

    def __exit__(self, *exc: object) -> None:
        self._store.close()

    @property
    def current(self) -> ReviewItem | None:
        """Return the query to decide on; None if none is left."""
        return self._waiting[0] if self._waiting else None

    @property
    def left(self) -> int:
        """Return the number of open queries, including the current one."""
        return len(self._waiting)

    @property
    def done(self) -> int:
        """Return the number of decisions in this session that were not undone."""
        return len(self._done)

    def accept(self, number: int = 1) -> None:
        """Take candidate ``number`` (from 1) as the final text. Raises ConfigError if it does not exist or is empty."""
        candidate = self.candidate(number)
        self._decide(candidate, candidate.text)

    def edit(self, text: str, number: int = 1) -> None:
        """Take ``text``, edited from candidate ``number``, as the final text; unchanged, it counts as accepted."""
        self._decide(self.candidate(number), text)

    def skip(self) -> None:
        """Leave the query for later."""
        self._decide(self.candidate(1), None)

    def press(self, key: str, *, edit: Callable[[str], str | None]) -> str | None:
        """Act on a key: a number accepts that candidate, e or e2 edits one with ``edit``, s skips, u undoes.

        Returns a message if nothing was decided, else None.
        """
        try:
            if key == "s":
                self.skip()
            elif key == "u":
                return None if self.undo() else "nothing to undo in this session"
            elif key.isdecimal():
                self.accept(int(key))
            elif key.startswith("e") and (key[1:] or "1").isdecimal():
                number = int(key[1:] or "1")
                edited = edit(self.candidate(number).text)
                if edited is None:
                    return "not saved, nothing changed"
                self.edit(edited.rstrip("\n"), number)
            else:
                return f"{key!r} is not a key here"
        except ConfigError as error:
            return str(error)
        return None

    def undo(self) -> bool:
        """Undo the last decision of this session; return False if there is none."""
        if not self._done:
            return False
        item, row = self._done.pop()
        undone = _row(item, action=UNDO, reviewer=self._reviewer, undoes=row["review_id"])
        self._store.put([("reviews", undone)])
        self._waiting.insert(0, item)
        return True

    def candidate(self, number: int) -> Candidate:
        """Return candidate ``number`` (from 1) of the current query. Raises ConfigError."""
        if self.current is None or not 1 <= number <= len(self.current.candidates):
            raise ConfigError(f"candidate {number} does not exist")
        return self.current.candidates[number - 1]

    def _decide(self, candidate: Candidate, text: str | None) -> None:
        if text is not None and not text.strip():
            raise ConfigError("the text is empty; edit it or skip the query")
        row = decision(self._waiting[0], candidate, text, reviewer=self._reviewer)
        self._store.put([("reviews", row)])
        self._done.append((self._waiting.pop(0), row))


def decision(
    item: ReviewItem, candidate: Candidate, text: str | None, *, reviewer: str, source: str | None = None
) -> dict[str, object]:
    """Return the row of raw.reviews that makes ``text``, begun from ``candidate``, final; None leaves it for later."""
    action = SKIP if text is None else ACCEPT if text == candidate.text else EDIT
    key = candidate.translation_id
    return _row(item, action=action, text=text, translation_id=key, reviewer=reviewer, source=source)


def _row(item: ReviewItem, **decided: object) -> dict[str, object]:
    names = ("dataset", "query_id", "language")
    row = {**{name: getattr(item, name) for name in names}, **decided, "created_at": store.now()}
    return {"review_id": key_of(kind="review", **row), **row}


def review_status(path: Path, *, dataset: str | None = None, engines: bool = False) -> store.Rows:
    """Return the state of the review by language, or with ``engines`` the quality of each engine's candidates.

    ``dataset`` of None takes every query set. Raises MissingExtra as ``score_missing``.
    """
    if engines:
        score_missing(path)
    return store.named(path, "translation_engines" if engines else "translation_status", [dataset])


def score_missing(path: Path) -> int:
    """Score every candidate against its query's final text (chrF, TER) unless it has scores; return the number.

    Raises MissingExtra if sacrebleu is not installed.
    """
    rows = store.named(path, "translation_unscored").dicts()
    if not rows:
        return 0
    with needs_extra("translate"):
        from sacrebleu.metrics import CHRF, TER
    chrf, ter = CHRF(), TER()
    with store.Store(path, flush_rows=1_000) as target:
        for row in rows:
            text, final = row.pop("text"), [row.pop("final_text")]
            row["chrf"] = round(chrf.sentence_score(text, final).score, 3)
            row["ter"] = round(ter.sentence_score(text, final).score, 3)
            row["signature"] = f"{chrf.get_signature()} {ter.get_signature()}"
            target.put([("translation_scores", row)])
    return len(rows)
