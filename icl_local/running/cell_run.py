"""Make the missing responses of one cell: events on the way, rows as they come, a few decoded again at the end."""

import itertools
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Protocol

from icl_local import store
from icl_local.detect import ANSWER_RULE, critical_error_rows, identify_language
from icl_local.engine import Completion, ProbeStep, Request, Stats
from icl_local.exceptions import IclError, ModelError, StoreLocked
from icl_local.identity import key_of
from icl_local.running.cells import CHOICES, Cell, CellPlan
from icl_local.running.choices import Chosen, Spelled, choice_rows, choose
from icl_local.running.engines import AnyWorker, Engines
from icl_local.running.probe import Setting
from icl_local.running.server import ServerGenerator
from icl_local.running.verify import pick, verify_made
from icl_local.store import Record, Row
from icl_local.weights import ResolvedModel
from icl_local.wording import counted

# columns of responses
_OF_CELL = ("cell_id", "model_id", "gguf_sha256", "method", "language", "settings_id")
_OF_STATS = ("prompt_tokens", "prefilled_tokens", "new_tokens", "prefill_seconds", "decode_seconds")  # of run_cells
_OF_COMPLETION = ("raw_text", "finish_reason", "prompt_tokens", "new_tokens", "tokens_saved", "end_token")


class HasLabel(Protocol):
    """A cell, or a job of icl score."""

    @property
    def label(self) -> str:
        """Return its name for people."""


@dataclass(frozen=True)
class Event:
    """Progress of a cell, or of a job of icl score.

    ``kind``: planned, note, probe, started, progress, response, verifying, done, failed or interrupted. ``n_wanted``:
    queries of the cell, times their draws.
    Rates are tokens per second of this process; ``n_loops`` and ``n_code`` count critical errors of this process, and
    ``n_too_long`` the prompts that did not fit the context: they have no response. ``probe``: that of the cell's file.
    """

    kind: str
    cell: HasLabel
    n_done: int
    n_wanted: int
    tokens_per_second: float = 0.0
    n_loops: int = 0
    n_code: int = 0
    message: str = ""
    n_too_long: int = 0
    probe: ProbeStep | None = None


@dataclass(frozen=True)
class CellResult:
    """The result of a cell in this process; ``status`` is done or failed.

    ``n_new`` counts responses; ``n_too_long`` prompts that did not fit the context and have none. Of ``n_verified``
    responses that were decoded again ``n_differing`` differed.
    """

    cell: Cell
    status: str
    n_new: int
    n_wanted: int
    stats: Stats | None
    error: str | None = None
    n_verified: int = 0
    n_differing: int = 0
    n_too_long: int = 0

    def __repr__(self) -> str:
        error = f": {self.error}" if self.error else ""
        too_long = f", {self.n_too_long} too long for the context" if self.n_too_long else ""
        return f"<{self.cell.label}: {self.status}, {self.n_new} new of {self.n_wanted}{too_long}{error}>"


def make_cell(
    plan: CellPlan, have: set[str], engines: Engines, verify: int, on_event: Callable[[Event], None]
) -> CellResult:
    """Make what is missing of a cell; where another process makes the same responses, wait for that one first."""
    n_wanted, n_done = len(plan.keys), len(plan.keys & have)
    message = "another process is making these responses; waiting for it"
    held = Event("note", plan.cell, n_done, n_wanted, message=message)
    if n_done < n_wanted:
        with engines.only_one("responses", plan.keys, have, partial(on_event, held)) as have:
            if requests := plan.requests(have):
                return CellRun(plan, requests, engines, on_event).make(verify)
    on_event(Event("done", plan.cell, n_wanted, n_wanted))
    return CellResult(plan.cell, "done", 0, n_wanted, None)


class CellRun:
    """The missing responses of a cell being made: the counts that its events show, and its row of raw.run_cells."""

    def __init__(
        self, plan: CellPlan, requests: list[Request], engines: Engines, on_event: Callable[[Event], None]
    ) -> None:
        self._plan, self._requests, self._engines, self._on_event = plan, requests, engines, on_event
        self._writer, run_row = engines.writer, engines.run_row
        self._cell, self._n_wanted = plan.cell, len(plan.keys)
        self._before = self._done = self._n_wanted - len(requests)
        self._counts = Counter(n_loops=0, n_code=0, n_too_long=0)  # of an Event
        self._worker: AnyWorker | None = None
        self._started: float | None = None
        self._spelled: Spelled = set()
        self._lengths: dict[str, int] = {}  # new tokens of what was decoded, by response_id
        self._named: list[Record] = [("runs", run_row), *plan.rows()]  # what the rows of the cell refer to
        self._shared: dict[str, object] = {
            "run_id": run_row["run_id"],
            **{name: plan.cell_row[name] for name in _OF_CELL},
            "exact": None,
        }
        self._row: dict[str, object] = {
            "run_cell_id": key_of(kind="run_cell", run=run_row["run_id"], cell=plan.cell_row["cell_id"]),
            "n_wanted": self._n_wanted,
        }

    def make(self, verify: int) -> CellResult:
        """Generate and store the responses; decode ``verify`` of them again, one at a time, and compare."""
        status, error = "interrupted", None
        try:
            self._generate(self._prepare())
            status = "done"
        except ModelError as failure:
            status, error = "failed", str(failure)
            self._engines.close()
        finally:
            # The worker's are those of its last call: before the start a probe's, without requests another cell's.
            stats = self._worker.stats if self._worker and self._started and self._requests else Stats()
            self._put_end(status, error, stats)
        verified = self._verify(verify) if status == "done" else []
        self._report(status, message=error or "")
        n_differing, n_too_long = len(verified) - sum(verified), self._counts["n_too_long"]
        new = self._done - self._before - n_too_long
        return CellResult(self._cell, status, new, self._n_wanted, stats, error, len(verified), n_differing, n_too_long)

    def _prepare(self) -> Setting:
        """Load the file, find its setting, and store that the cell has begun."""
        cell, plan = self._cell, self._plan
        worker = self._worker = self._engines.worker(cell.model, str(plan.settings["kv_type"]))
        room = self._requests[0].max_tokens if cell.method.in_brackets else 0
        setting = Setting({}, None)
        if _too_long(worker, self._requests, room, partial(self._report, "note", 0.0)) < len(self._requests):
            setting = self._engines.setting(cell.model, worker, plan.prompt_characters, self._report)
        self._shared["exact"] = setting.exact
        self._row["engine_settings"] = _engine_settings(worker, setting)
        begun = {**self._row, **self._shared, "status": "started", "n_done": 0}
        self._writer.put([*self._named, ("run_cells", begun)])
        self._named = []
        self._report("started")
        return setting

    def _generate(self, setting: Setting) -> None:
        """Store each response as it is decoded, those first that another method has decoded from the same prompt."""
        made = _made_before(self._writer, self._plan, self._requests, setting.exact)
        self._requests = [request for request in self._requests if request.id not in made]
        self._started = time.perf_counter()  # after loading and probing, which are not the first cell's alone
        worker: Any = self._worker
        how: dict[str, Any] = {"on_progress": self._on_progress, **setting.overrides}
        if self._plan.decoding.decode == CHOICES:
            choices = {key: query.expected["choices"] for key, (query, _) in self._plan.by_key.items()}
            completions: Any = choose(worker, self._requests, choices, **how)
        else:
            completions = worker.generate(self._requests, **how)
        with closing(completions) as generated:
            for completion in itertools.chain(made.values(), generated):
                rows, counts = _response_rows(self._plan, completion, self._shared, self._spelled)
                self._writer.put(rows)
                if completion.tokens and completion.id not in made:
                    self._lengths[completion.id] = completion.new_tokens
                self._done += 1
                self._counts.update(counts)
                self._report("response")

    def _put_end(self, status: str, error: str | None, stats: Stats) -> None:
        row = {**self._row, **self._shared, "status": status, "error": error, "n_done": self._done - self._before}
        row |= {name: getattr(stats, name) for name in _OF_STATS}
        row |= {"n_parallel": stats.n_parallel or None, "peak_rss_bytes": stats.peak_rss_bytes or None}
        row["ended_at"] = store.now()
        row["wall_seconds"] = None if self._started is None else time.perf_counter() - self._started
        if self._worker is not None:
            row["gpu_layers"] = self._worker.info.gpu_layers
        # After a full disk even this row may not fit; it must not hide why the run stopped.
        with suppress(IclError):
            self._writer.put([*self._named, ("run_cells", row)])

    def _verify(self, n: int) -> list[bool]:
        """Return whether each of ``n`` of the new responses, decoded again, is equal; a server's are not verified."""
        verified: list[bool] = []
        if not isinstance(self._cell.model, ResolvedModel):
            return verified
        try:
            picked = pick(self._lengths, n, seed=str(self._shared["run_id"]))
            if picked:
                self._report("verifying", message=f"verify 0/{len(picked)}")
            for equal in verify_made(self._writer, self._cell.model, self._worker, picked):
                verified.append(equal)
                self._report("verifying", message=f"verify {len(verified)}/{len(picked)}")
        except (ModelError, StoreLocked) as failure:
            self._report("note", message=f"not verified: {failure}")
            self._engines.close()
        if differing := len(verified) - sum(verified):
            found = f"{differing} of {counted(len(verified), 'response')} of {self._cell.label} differ when decoded one"
            see = 'see: icl sql "from verifications where not equal"'
            self._report(
                "note", message=f"{found} at a time: exact is false for this file, machine and settings; {see}"
            )
        return verified

    def _report(self, kind: str, rate: float = 0.0, message: str = "", probe: ProbeStep | None = None) -> None:
        n_done, n_wanted = self._done, self._n_wanted
        self._on_event(Event(kind, self._cell, n_done, n_wanted, rate, message=message, probe=probe, **self._counts))

    def _on_progress(self, tokens: int) -> None:
        self._report("progress", tokens / max(1e-9, time.perf_counter() - (self._started or 0.0)))


def _made_before(
    writer: store.Store, plan: CellPlan, requests: Sequence[Request], exact: object
) -> dict[str, Completion]:
    """Return, by id of a request, what was decoded from the same prompt for the same query under another method.

    Only a method with parameters can have the prompts of another one. Nothing is found in a locked database.
    """
    if not plan.cell.method.in_brackets or plan.decoding.decode == CHOICES:
        return {}
    asked = []
    for request in requests:
        query, prompt = plan.by_key[request.id]
        asked.append({"id": request.id, "sha256": prompt.sha256, "query_key": query.key, "stops": list(prompt.stops)})
    try:
        parameters = [plan.cell_row["weights"], plan.settings["settings_id"], exact, asked]
        found = writer.named("equal_responses", parameters).dicts()
    except StoreLocked:
        return {}
    return {row["id"]: Completion(**{**row, "tokens": tuple(row["tokens"])}) for row in found}


def _too_long(worker: Any, requests: Sequence[Request], room: int, note: Callable[[str], None]) -> int:
    """Return how many prompts do not fit a file's context; ``note`` gets a sentence on them.

    If an answer may take ``room`` tokens, it also gets one on the prompts that leave less.
    """
    if isinstance(worker, ServerGenerator):
        return 0
    context, of = worker.info.n_ctx_train, f"of {counted(len(requests), 'prompt')}"
    # a token is a byte or more, so a prompt with fewer bytes than the context fits; BOS is one more
    texts = [one.prompt for one in requests if len(one.prompt.encode()) + 1 >= context - room]
    long = worker.count_tokens(texts) if texts else []
    if too_long := [n for n in long if n >= context]:
        note(
            f"{counted(len(too_long), f'{of} does', f'{of} do')} not fit the context of {context:,} tokens (longest: "
            f"{max(too_long):,}); no response is made there, finish_reason is prompt_too_long"
        )
    if tight := [n for n in long if context - room < n < context]:
        note(
            f"{counted(len(tight), f'{of} leaves', f'{of} leave')} less than {room:,} tokens of the context of "
            f"{context:,} (longest: {max(tight):,}); answers may be cut; give fewer examples or a smaller --max-tokens"
        )
    return len(too_long)


def _engine_settings(worker: AnyWorker, setting: Setting) -> dict[str, object]:
    """Return the engine settings that a cell is decoded with; no folder of the user."""
    used = {**asdict(worker.options), **setting.overrides}
    facts = {
        "threads": worker.info.n_threads,
        "gpu_layers": worker.info.gpu_layers,
        "repack": used["repack"] is not False,
    }
    return {name: value for name, value in {**used, **facts}.items() if name not in ("prefix_cache", "trace")}


def _response_rows(
    plan: CellPlan, completion: Completion, shared: Row, spelled: Spelled
) -> tuple[list[Record], dict[str, int]]:
    """Return the rows of a response and its critical errors, and what it adds to the counts of an Event."""
    query, prompt = plan.by_key[completion.id]
    if isinstance(completion, Chosen):
        assert isinstance(plan.cell.model, ResolvedModel)
        text = completion.raw_text
        errors, scored = [], list(choice_rows(completion, query, prompt, plan.cell.model, shared, spelled))
    else:
        answer = prompt.answer(completion.raw_text)
        text, errors, scored = answer.text, critical_error_rows(completion.id, answer), []
    row = {
        **shared,
        "response_id": completion.id,
        "query_key": query.key,
        "prompt_id": prompt.prompt_id,
        "prompt_sha256": prompt.sha256,
        "text": text,
        **{name: getattr(completion, name) for name in _OF_COMPLETION},
        "tokens": completion.tokens or None,
        "text_language": identify_language(text),
        "answer_rule": ANSWER_RULE,
        **plan.drawn(completion.id),
    }
    found = {e["error"] for e in errors if e["found"]}
    unintended = "unintended_code" in found and query.task is not None and "coding" not in query.task
    rows = [("responses", row), *(("critical_errors", e) for e in errors), *scored]
    too_long = completion.finish_reason == "prompt_too_long"
    return rows, {"n_loops": "infinite_loop" in found, "n_code": unintended, "n_too_long": too_long}
