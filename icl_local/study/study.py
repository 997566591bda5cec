"""Run a study: cells, DPO steps and judges of one file, resumable like any run.

Cells whose model, queries or prompts are missing are told and left out; the others run, file by file, each loaded
once. What a study asks for is written down with its rows, so that ``icl status`` shows what is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from icl_local import dpo, prompting, store
from icl_local.convert import convert, model_source
from icl_local.dpo import data as dpo_data
from icl_local.dpo import settings as dpo_settings
from icl_local.engine import EngineOptions
from icl_local.exceptions import ConfigError, IclError, StoreError
from icl_local.identity import key_of
from icl_local.judging import (
    JudgeProgress,
    OpenWorker,
    Scope,
    judge_missing,
    open_judge,
    open_templates,
)
from icl_local.prompting import QuerySet
from icl_local.running import Cell, CellResult, Event, OpenEngines, Shard, run_cells
from icl_local.study.spec import JudgeSpec, Study, Training, Wanted
from icl_local.weights import checksum, hub, registry

T = TypeVar("T")


@dataclass(frozen=True)
class Failure:
    """A part of a study that could not be done, and why."""

    what: str
    reason: str


@dataclass(frozen=True)
class Outcome:
    """What a call of ``run_study`` did."""

    cells: tuple[CellResult, ...]
    judged: Mapping[str, JudgeProgress]
    failures: tuple[Failure, ...]

    @property
    def n_new(self) -> int:
        """Responses made."""
        return sum(result.n_new for result in self.cells)


def prepare(
    study: Study,
    wanted: Sequence[Wanted],
    *,
    shard: Shard | None = None,
    fetch: bool = False,
    models_file: Path | None = None,
    on_download: checksum.OnBytes | None = None,
) -> tuple[list[tuple[Wanted, Cell]], list[tuple[Wanted, tuple[str, ...]]]]:
    """The cells that can run now, file by file, and for the others what is missing.

    With ``fetch`` files and Just-Eval are downloaded; without, what would have to be is missing.
    """
    ready: list[tuple[Wanted, Cell]] = []
    missing: list[tuple[Wanted, tuple[str, ...]]] = []
    sets: dict[str, QuerySet | IclError] = {}
    for one in wanted:
        reasons: list[str] = []
        model = _attempt(partial(_model, one, fetch, models_file, on_download))
        if one.language not in sets:
            sets[one.language] = _attempt(partial(study.query_set, one.language, shard=shard, fetch=fetch))
        found = sets[one.language]
        reasons += [str(error) for error in (model, found) if isinstance(error, IclError)]
        if not isinstance(model, IclError) and not isinstance(found, IclError):
            try:
                prompting.language_spec(one.language)
                cell = Cell(model, prompting.method_spec(one.method), one.language, found, found.queries)
                ready.append((one, cell))
            except IclError as error:
                reasons.append(str(error))
        if reasons:
            missing.append((one, tuple(reasons)))
    return sorted(ready, key=lambda pair: str(pair[1].model.path)), missing


def run_study(
    path: Path,
    study: Study,
    *,
    options: EngineOptions | None = None,
    shard: Shard | None = None,
    probe: bool = True,
    judge: bool = True,
    work: Path = Path("studies"),
    models_file: Path | None = None,
    open_engines: OpenEngines | None = None,
    open_worker: OpenWorker | None = None,
    on_event: Callable[[Event], None] = lambda event: None,
    on_note: Callable[[str], None] = lambda text: None,
    on_download: checksum.OnBytes | None = None,
) -> Outcome:
    """Everything of ``study`` that ``path`` lacks: cells whose files are here, DPO steps, their cells, judgments.

    What fails is told in the outcome and does not stop the rest. ``work`` is the folder of trained models,
    ``open_engines`` and ``open_worker`` are a cluster's. Raises
    StoreError and KeyboardInterrupt, after which the same call goes on.
    """
    with store.Store(path) as writer:
        writer.put(_rows(study, models_file))
    results: list[CellResult] = []
    failures: list[Failure] = []

    def make(wanted: Sequence[Wanted]) -> list[tuple[Wanted, tuple[str, ...]]]:
        ready, missing = prepare(
            study, wanted, shard=shard, fetch=True, models_file=models_file, on_download=on_download
        )
        if ready:
            results.extend(
                run_cells(
                    path,
                    [cell for _, cell in ready],
                    decoding=study.decoding,
                    options=options,
                    command=f"study {study.name}",
                    probe=probe,
                    seed=study.seed,
                    open_engines=open_engines,
                    on_event=on_event,
                )
            )
        return missing

    missing = make(study.cells)
    trained = False
    for training in study.trainings:
        if not _is_here(f"{training.variant}-dpo", training.model, models_file):
            try:
                _train(path, training, work, models_file, on_note)
                trained = True
            except StoreError:
                raise
            except IclError as error:
                failures.append(Failure(f"DPO of {training.model} ({training.variant})", str(error)))
    if trained:
        missing = make([one for one, _ in missing])
    failures += [Failure(one.label, "; ".join(reasons)) for one, reasons in missing]
    failures += [Failure(r.cell.label, r.error or "failed") for r in results if r.status == "failed"]
    judged: dict[str, JudgeProgress] = {}
    for spec in study.judges if judge else ():
        try:
            judged[spec.judge] = _judge(path, study, spec, options, shard, models_file, open_worker)
        except StoreError:
            raise
        except IclError as error:
            failures.append(Failure(f"judge {spec.judge}", str(error)))
    return Outcome(tuple(results), judged, tuple(failures))


def grids(database: Path) -> list[tuple[str, list[str], list[tuple[object, ...]]]]:
    """Of every study in the database: its name, columns and rows, models and methods down, languages across.

    A field says done/wanted, and judged where judgments are there.
    """
    found = store.named(database, "study_grid")
    studies: dict[str, dict[tuple[str, str], dict[str, str]]] = {}
    for study, model, dpo_, method, language, done, wanted, judged in found.rows:
        line = studies.setdefault(study, {}).setdefault((f"{model}{' DPO' if dpo_ else ''}", method), {})
        line[language] = f"{done}/{wanted}" + (f" judged {judged}" if judged else "")
    grids = []
    for study, lines in studies.items():
        languages = list(dict.fromkeys(language for line in lines.values() for language in line))
        rows: list[tuple[object, ...]] = [
            (*names, *(line.get(language, "") for language in languages)) for names, line in lines.items()
        ]
        grids.append((study, ["model", "method", *languages], rows))
    return grids


def printed_name(model: str, models_file: Path | None = None) -> str:
    """The label a cell's rows carry, also where its file is not here."""
    family = registry.load_registry(models_file).get(model)
    return family.label if family else Path(model).stem


def _attempt(get: Callable[[], T]) -> T | IclError:
    try:
        return get()
    except IclError as error:
        return error


def _model(
    one: Wanted, fetch: bool, models_file: Path | None, on_download: checksum.OnBytes | None
) -> registry.ResolvedModel:
    if not fetch:
        _require_file(one, models_file)
    kind = prompting.method_spec(one.method).kind
    return registry.resolve(one.model, method_kind=kind, dpo=one.dpo, models_file=models_file, on_progress=on_download)


def variant_of(one: Wanted) -> str:
    """base, instruct, base-dpo or instruct-dpo: what of a family the cell runs."""
    base = "instruct" if prompting.method_spec(one.method).kind == prompting.CHAT else "base"
    return f"{base}-dpo" if one.dpo else base


def _is_here(variant: str, model: str, models_file: Path | None) -> bool:
    family = registry.load_registry(models_file).get(model)
    return family is not None and variant in family.variants and registry.state(family.variants[variant]) == "here"


def _require_file(one: Wanted, models_file: Path | None) -> None:
    """For a plan: what would have to be fetched is missing, and nothing is fetched. Raises ConfigError."""
    family = registry.load_registry(models_file).get(one.model)
    variant = family.variants.get(variant_of(one)) if family else None
    if variant is not None and registry.state(variant) == "to fetch":
        raise ConfigError(f"{one.model} ({variant_of(one)}) is to be fetched: {variant.gguf}")
    if one.model.startswith("hf:") and hub.cached(one.model) is None:
        raise ConfigError(f"{one.model} is to be fetched")


def _rows(study: Study, models_file: Path | None) -> list[tuple[str, dict[str, object]]]:
    """Rows of raw.study_cells: what `icl status` compares with."""
    created_at = store.now()
    cells: list[dict[str, object]] = []
    for one in study.cells:
        try:
            n_queries = len(study.query_set(one.language).queries)
        except IclError:
            n_queries = study.n_queries or 0
        model = printed_name(one.model, models_file)
        cells.append({"model": model, "method": one.method, "language": one.language, "dpo": one.dpo,
                      "dataset": study.dataset, "n_wanted": n_queries})  # fmt: skip
    study_id = key_of(kind="study", name=study.name, cells=cells)
    return [
        ("study_cells", {"study_id": study_id, "study": study.name, "cell_number": i, **cell, "created_at": created_at})
        for i, cell in enumerate(cells)
    ]


def _train(
    path: Path, training: Training, work: Path, models_file: Path | None, on_note: Callable[[str], None]
) -> None:
    """Train, convert and register the DPO variant of a family; each step goes on where it was stopped."""
    family = registry.load_registry(models_file).get(training.model)
    wanted = f"{training.variant}-dpo"
    if family is None or wanted not in family.variants:
        raise ConfigError(f"{training.model} has no variant {wanted} in the registry; add one with icl models add")
    base = family.variants[wanted].trained_from
    if base is None:
        raise ConfigError(f"the registry does not say what {training.model} ({wanted}) is trained from (trained_from)")
    out = work / f"{training.model}-{wanted}"
    settings = dpo_settings.parameters(training.preset, Path(training.config) if training.config else None)
    preferences = dpo_data.load_preferences(training.dataset, limit=training.limit)
    source = model_source.locate(base, work=out / "base", on_progress=on_note)
    gguf = out.with_name(out.name + ".gguf")
    with store.Store(path) as rows:
        made = dpo.train(
            source,
            preferences,
            out,
            settings,
            store=rows,
            on_progress=on_note,
            on_step=lambda step: on_note(f"step {step.step} of {step.total_steps}: loss {step.loss:.4f}"),
        )
        if not gguf.is_file():
            convert(made.folder, gguf, type_name=training.type, name=family.label, store=rows, on_progress=on_note)
    registry.add(training.model, files={wanted: str(gguf)}, models_file=models_file)


def _judge(
    path: Path,
    study: Study,
    spec: JudgeSpec,
    options: EngineOptions | None,
    shard: Shard | None,
    models_file: Path | None,
    open_worker: OpenWorker | None,
) -> JudgeProgress:
    how = {name: getattr(options, name) for name in ("parallel", "gpu_layers", "threads")} if options else {}
    selection = store.Selection(
        model=sorted({printed_name(one.model, models_file) for one in study.cells}),
        method=sorted({one.method for one in study.cells}),
        language=sorted({one.language for one in study.cells}),
    )
    scope = Scope(open_templates(spec.variant), spec.repeats, selection, shard=shard)
    return judge_missing(path, open_judge(spec.judge, open_worker=open_worker, **how), scope)
