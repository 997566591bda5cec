"""Run cells (model x method x language): generate the responses that are missing and store them.

A run that is killed resumes, because a response's key is known before the response is made. A cell that fails does not
stop the others. Before the first cell of a file a probe, stored from then on, finds the settings in which batching
changes nothing (engine/exact.py); every response records whether it was made with such settings.
"""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from icl_local import store
from icl_local.engine import EngineOptions
from icl_local.exceptions import ConfigError, InputError, ModelError
from icl_local.running.cell_run import CellResult, Event, make_cell
from icl_local.running.cells import Cell, CellPlan, Decoding
from icl_local.running.cluster import Cluster
from icl_local.running.engines import Engines, new_run
from icl_local.wording import counted


def run_cells(
    path: Path,
    cells: Sequence[Cell],
    *,
    decoding: Decoding | None = None,
    options: EngineOptions | None = None,
    command: str = "run",
    probe: bool = True,
    verify: int = 3,
    seed: int | None = None,
    nodes: Cluster | None = None,
    on_event: Callable[[Event], None] = lambda event: None,
) -> list[CellResult]:
    """Generate every response of ``cells`` that ``path`` does not have yet, on this machine or on ``nodes``.

    A cell in which llama.cpp fails ends as ``failed`` and the next one starts with a new worker. KeyboardInterrupt
    leaves everything finished in the store and is raised again. Without ``probe`` no exact setting is searched for,
    and ``exact`` of the responses is NULL. ``verify`` responses of each cell are decoded again, one at a time,
    and compared. Raises StoreError (DiskFull among them) at once.
    """
    decoding = decoding or Decoding()
    options = options or EngineOptions()
    planned: list[CellPlan] = []
    results: list[CellResult] = []
    for cell in cells:
        try:
            planned.append(CellPlan(cell, decoding))
        except (ConfigError, InputError, ModelError) as failure:
            n_wanted = len(cell.query_set.queries) * len(decoding.draw_numbers)
            on_event(Event("planned", cell, 0, n_wanted))
            on_event(Event("failed", cell, 0, n_wanted, message=str(failure)))
            results.append(CellResult(cell, "failed", 0, n_wanted, None, str(failure)))
    asked = {query.key: query for plan in planned for query in plan.cell.query_set.queries}
    with store.Store(path) as writer:
        with writer.reading():
            for plan in planned:
                query_set = plan.cell.query_set
                texts = {query.query_id: query.instruction for query in query_set.queries}
                store.refuse_other_texts(writer.named, query_set.dataset, plan.cell.language, texts)
                alike = [one for one in planned if one.cell.model.sha256 == plan.cell.model.sha256]
                plan.prompt_characters = max(one.prompt_characters for one in alike)  # one probe for a file's cells
            have = store.ids(path, "responses", "response_id")
            forgotten = {str(key) for (key,) in writer.named("forgotten_responses").rows}
            current = {str(key): known for key, *known in writer.named("current_queries", [list(asked)]).rows}
        for plan in planned:
            on_event(Event("planned", plan.cell, len(plan.keys & have), len(plan.keys)))
        notes = {note: plan for plan in planned for note in (*plan.cell.model.notes, *plan.cell.query_set.notes)}
        for note, plan in notes.items():
            on_event(Event("note", plan.cell, 0, len(plan.keys), message=note))
        for plan in planned:
            if n := len(plan.keys & forgotten):
                stay = counted(n, "response stays forgotten", "responses stay forgotten")
                message = f"{stay}; icl db forget --allow-again lifts this"
                on_event(Event("note", plan.cell, 0, len(plan.keys), message=message))
        # also of queries whose responses are all there: a reference may be corrected, tags or a task may be new
        changed = []
        for key, query in asked.items():
            has_task, has_tags = current.get(key, (True, False))  # a query without tags comes with its first response
            if (query.task and not has_task) or (query.tags and not has_tags):
                changed.append(query)
        writer.put([("queries", query.row()) for query in changed])
        expected = [query.expectation_row() for query in asked.values() if query.expected]
        writer.put([("expectations", row) for row in expected if row["expectation_id"] not in current])
        options = replace(options, stop_on_loop=decoding.stop_on_loop)
        with closing(Engines(options, writer, new_run(command, seed), probe, nodes)) as engines:
            results += [make_cell(plan, have, engines, verify, on_event) for plan in planned]
    return results
