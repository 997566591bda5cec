"""Run a study: cells, DPO steps and judges of one file; the same call resumes it.

Cells whose model, queries or prompts are missing are reported and left out; the others run file by file, so that each
file is loaded once. The study's cells are stored with its rows, so that ``icl status`` shows what is missing.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from icl_local import dpo, store
from icl_local.convert import convert
from icl_local.engine import EngineOptions
from icl_local.exceptions import ConfigError, IclError, StoreError
from icl_local.identity import key_of
from icl_local.judging import Judge, JudgeProgress, Scope, judge_missing, open_judge, templates_of
from icl_local.openai_client import Budget
from icl_local.prompting import QuerySet, Recipe
from icl_local.results import Table
from icl_local.running import Cell, CellPlan, CellResult, Event, Shard, open_cluster, run_cells
from icl_local.store import Record
from icl_local.study.spec import JudgeSpec, Study, StudyCell, Training
from icl_local.weights import OnBytes, registry
from icl_local.wording import with_dpo

Sets = Mapping[str, QuerySet | IclError]  # Study.query_sets
Stopping = Callable[[], AbstractContextManager[Callable[[], bool]]]


@dataclass(frozen=True)
class Failure:
    """A part of a study that could not be done, and why."""

    what: str
    reason: str


@dataclass(frozen=True)
class Outcome:
    """The results of one call of ``run_study``."""

    cells: tuple[CellResult, ...]
    judged: Mapping[JudgeSpec, JudgeProgress]
    failures: tuple[Failure, ...]

    @property
    def n_new(self) -> int:
        """Return the number of responses generated."""
        return sum(result.n_new for result in self.cells)


def prepare(
    study: Study,
    cells: Iterable[StudyCell],
    sets: Sets,
    *,
    fetch: bool = False,
    on_download: OnBytes | None = None,
) -> tuple[dict[StudyCell, Cell], dict[StudyCell, list[str]]]:
    """Return the cells that can run now, sorted by file, and for the others what is missing.

    ``sets`` are the study's queries. With ``fetch`` models are downloaded; without it such a file is missing.
    """
    ready: dict[StudyCell, Cell] = {}
    missing: dict[StudyCell, list[str]] = {}
    for one in cells:
        found, reasons = sets[one.language], []
        try:
            if not fetch and (file := registry.to_fetch(one.model, study.variant(one))):
                raise ConfigError(f"{one.model} ({study.variant(one)}) is to be fetched: {file}")
            model = registry.resolve(one.model, method_kind=study.kind(one), dpo=one.dpo, on_progress=on_download)
            if not isinstance(found, IclError):
                recipe = Recipe(one.method, one.language, overlay=study.prompt_dir, pools=study.pools)
                ready[one] = Cell(model, recipe, found)
        except IclError as error:
            reasons.append(str(error))
        if isinstance(found, IclError):
            reasons.append(str(found))
        if reasons:
            missing[one] = reasons
    return dict(sorted(ready.items(), key=lambda pair: str(pair[1].model.path))), missing


def run_study(
    path: Path,
    study: Study,
    *,
    options: EngineOptions | None = None,
    shard: Shard | None = None,
    probe: bool = True,
    judge: bool = True,
    work: Path = Path("studies"),
    max_cost: float | None = None,
    prices: Path | None = None,
    cluster: str | None = None,
    worker_cpus: int | None = None,
    on_event: Callable[[Event], None] = lambda event: None,
    on_note: Callable[[str], None] = lambda text: None,
    on_download: OnBytes | None = None,
    stopping: Stopping = lambda: nullcontext(lambda: False),
) -> Outcome:
    """Make everything of ``study`` that ``path`` lacks: responses, DPO models and their responses, judgments.

    A part that fails is in the outcome's failures and does not stop the rest; ``on_note`` reports a judge without a
    key, a price or a file before the first cell. ``work`` is the folder of trained models, ``max_cost`` a limit in USD
    for all judges together, ``prices`` a price table, read before the built-in one. ``stopping``: a context whose
    function returns whether training is to save a checkpoint and end with KeyboardInterrupt.

    Raises ClusterError, StoreError and KeyboardInterrupt; the same call resumes.
    """
    sets = study.query_sets(shard=shard, fetch=True)
    with store.Store(path) as writer:
        writer.put(_rows(study, sets if shard is None else study.query_sets()))
    results: list[CellResult] = []
    failures: list[Failure] = []
    judged: dict[JudgeSpec, JudgeProgress] = {}
    runnable: dict[StudyCell, Cell] = {}
    options = options or EngineOptions()
    budget = None if max_cost is None else Budget(max_cost)

    def make(cells: Iterable[StudyCell]) -> dict[StudyCell, list[str]]:
        ready, missing = prepare(study, cells, sets, fetch=True, on_download=on_download)
        runnable.update(ready)
        if ready:
            results.extend(
                run_cells(
                    path,
                    [*ready.values()],
                    decoding=study.decoding,
                    options=options,
                    command=f"study {study.name}",
                    probe=probe,
                    seed=study.seed,
                    nodes=nodes,
                    on_event=on_event,
                )
            )
        return missing

    @contextmanager
    def part(what: str) -> Iterator[None]:
        try:
            yield
        except StoreError:
            raise
        except IclError as error:
            failures.append(Failure(what, str(error)))

    with open_cluster(cluster, worker_cpus=worker_cpus) as nodes:

        def opened(spec: JudgeSpec) -> tuple[Judge, Scope]:
            worker = None if nodes is None else nodes.worker
            how: dict[str, Any] = {name: getattr(options, name) for name in ("parallel", "gpu_layers", "threads")}
            how |= {"budget": budget, "prices": prices, "open_worker": worker, "on_download": on_download}
            made = open_judge(spec.judge, **how)
            return made, Scope(templates_of(spec.judge, spec.variant, overlay=study.prompt_dir), spec.repeats)

        judges: dict[JudgeSpec, tuple[Judge, Scope]] = {}
        for spec in study.judges if judge else ():
            try:
                if not spec.to_fetch():  # the disk is for the cells' files first
                    judges[spec] = opened(spec)
            except IclError as error:  # reported before the first cell, tried again after the DPO steps
                on_note(f"judge {spec.label}: {error}")
        missing = make(study.cells)
        n_trained = 0
        for one in study.trainings:
            with part(f"DPO of {one.model} ({one.variant})"):
                n_trained += _train(path, one, work, on_note, stopping)
        if n_trained:
            missing = make(missing)
        failures += [Failure(one.label, "; ".join(reasons)) for one, reasons in missing.items()]
        failures += [Failure(r.cell.label, r.error or "failed") for r in results if r.status == "failed"]
        stored = stored_responses(path, study, runnable, sets)
        own = {response_id for of_cell in stored.values() for response_id in of_cell.values()}
        for spec in study.judges if judge else ():
            with part(f"judge {spec.label}"):
                made, scope = judges.get(spec) or opened(spec)
                judged[spec] = judge_missing(path, made, replace(scope, responses=own))
    return Outcome(tuple(results), judged, tuple(failures))


def grids(database: Path) -> list[Table]:
    """Return a table of every study in the database, named by it: models and methods down, languages across.

    A value says done/requested, and the number judged if there are judgments; "?" where the queries were not here.
    """
    studies: dict[str, dict[tuple[str, str], dict[str, str]]] = {}
    for study, model, is_dpo, method, language, done, n_queries, judged in store.named(database, "study_grid").rows:
        values = studies.setdefault(study, {}).setdefault((with_dpo(model, is_dpo), method), {})
        of = f"{min(done, n_queries)}/{n_queries}" if n_queries else f"{done}/?"
        values[language] = of + (f" judged {judged}" if judged else "")
    found = []
    for study, by_row in studies.items():
        languages = list(dict.fromkeys(language for values in by_row.values() for language in values))
        rows: list[tuple[object, ...]] = [
            (*names, *(values.get(language, "") for language in languages)) for names, values in by_row.items()
        ]
        found.append(Table(study, ("model", "method", *languages), rows))
    return found


def stored_responses(
    path: Path,
    study: Study,
    runnable: Mapping[StudyCell, Cell],
    sets: Sets,
) -> dict[StudyCell, dict[tuple[str, int], str]]:
    """Return the id of each stored response of the study by its query id and draw (0: greedy), a cell each.

    A cell of ``runnable`` finds its own by key, another by its names, its queries and the study's settings.
    """
    exists = store.exists(path)
    rows = store.named(path, "study_responses", [asdict(study.decoding)]).dicts() if exists else []
    ids = store.ids(path, "responses", "response_id") if exists else set()
    found = {}
    for one in study.cells:
        if one in runnable:
            plan = CellPlan(runnable[one], study.decoding)
            names = {key: (query.query_id, plan.draw_number[key]) for key, (query, _) in plan.by_key.items()}
            found[one] = {name: key for key, name in names.items() if key in ids}
        else:
            found[one] = _by_name(study, one, rows, sets[one.language])
    return found


def _by_name(
    study: Study, one: StudyCell, rows: Sequence[Mapping[str, Any]], found: QuerySet | IclError
) -> dict[tuple[str, int], str]:
    """Return {(query id, draw): response id} of the largest stored cell with the names of ``one``."""
    label = registry.printed_name(one.model)
    dataset = study.dataset if isinstance(found, IclError) else found.dataset
    query_ids = None if isinstance(found, IclError) else {query.query_id for query in found.queries}
    cells: dict[str, dict[tuple[str, int], str]] = {}
    for row in rows:
        names = (row["model"], row["method"], row["language"], row["dpo"])
        if (
            names == (label, one.method, one.language, one.dpo)
            and dataset in (None, row["dataset"])
            and (query_ids is None or row["query_id"] in query_ids)
        ):
            cells.setdefault(row["cell_id"], {})[row["query_id"], row["draw"]] = row["response_id"]
    return max(cells.values(), key=len, default={})


def _rows(study: Study, sets: Sets) -> list[Record]:
    """Return rows of raw.study_cells, which `icl status` compares with the responses."""
    created_at = store.now()
    cells: list[dict[str, object]] = []
    for one in study.cells:
        found = sets[one.language]
        if isinstance(found, IclError):
            dataset, n_wanted = study.dataset, study.n_queries or 0
        else:
            dataset, n_wanted = found.dataset, len(found.queries)
        model = registry.printed_name(one.model)
        cells.append({**asdict(one), "model": model, "dataset": dataset, "n_wanted": n_wanted})
    study_id = key_of(kind="study", name=study.name, cells=cells)  # the last call of a name counts
    return [
        ("study_cells", {"study_id": study_id, "study": study.name, "cell_number": i, **cell, "created_at": created_at})
        for i, cell in enumerate(cells)
    ]


def _train(
    path: Path,
    training: Training,
    work: Path,
    on_note: Callable[[str], None],
    stopping: Stopping,
) -> bool:
    """Train, convert and register the DPO variant of a family; each step resumes where it was stopped.

    Return False if its file is here already.
    """
    variant = f"{training.variant}-dpo"
    spec = registry.variant_spec(training.model, variant)
    if spec is None:
        raise ConfigError(f"{training.model} has no variant {variant} in the registry; add one with icl models add")
    if registry.state(spec) == "here":
        return False
    base = spec.trained_from
    if base is None:
        raise ConfigError(f"the registry does not say what {training.model} ({variant}) is trained from (trained_from)")
    out = work / f"{training.model}-{variant}"
    inputs = dpo.prepare(
        base=base,
        dataset=training.dataset,
        out=out,
        preset=training.preset,
        config=Path(training.config) if training.config else None,
        limit=training.limit,
        on_progress=on_note,
    )
    gguf = out.with_name(out.name + ".gguf")
    with store.Store(path) as rows:
        with stopping() as should_stop:
            made = dpo.train(
                *inputs,
                should_stop=should_stop,
                store=rows,
                on_progress=on_note,
                on_step=lambda step: on_note(f"step {step.step} of {step.total_steps}: loss {step.loss:.4f}"),
            )
        if made.status == "stopped":
            raise KeyboardInterrupt
        if not gguf.is_file():
            convert(
                made.folder,
                gguf,
                type_name=training.type,
                name=registry.printed_name(training.model),
                store=rows,
                on_progress=on_note,
            )
    registry.add(training.model, files={variant: str(gguf)})
    return True
