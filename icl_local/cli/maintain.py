"""Commands about the database and the machine: db, machine."""

from __future__ import annotations

import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from icl_local import __version__, bench, engine, environment, store
from icl_local.cli import console, options, progress, values
from icl_local.exceptions import EngineError
from icl_local.exchange import merge
from icl_local.running import probe
from icl_local.store import Selection, upkeep
from icl_local.wording import counted, shell

THOROUGH = ("n_prompts", "n_tokens", "prefix_words", "sizes", "first", "also_unified")  # icl machine probe
REBUILD = """\
A ready build leaves out what not every processor has. To compile llama.cpp for this one (some minutes):
  CMAKE_ARGS=-DGGML_NATIVE=ON pip install --force-reinstall --no-deps --no-cache-dir \
--no-binary llama-cpp-python llama-cpp-python=={package}
Then probe a model again: icl machine probe --quick --model FILE"""


@click.group("db")
def db() -> None:
    """Copy, merge, clean and check the database.

    Example: icl db doctor --db icl.duckdb
    """


@db.command("snapshot")
@options.out("File to write.", "output")
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
@options.db
def snapshot(output: Path, force: bool, db: Path) -> None:
    """Write a consistent copy of the database, also during a run.

    Example: icl db snapshot -o results-2026-11-21.duckdb
    """
    count = upkeep.snapshot(db, output, overwrite=force)
    console.say(f"{counted(count, 'row')} in {output}")


@db.command("merge")
@click.argument("other", type=click.Path(exists=True, path_type=Path))
@options.db
def merge_(other: Path, db: Path) -> None:
    """Add the rows of OTHER to this database.

    OTHER is a database, a spool folder, or a folder of `icl export --what all`. If both have a response and its texts
    differ, this database keeps its own and lists it.

    Example: icl db merge laptop2.duckdb --db icl.duckdb
    """
    with store.Store(db) as target:
        done = merge.merge(target, other)
    if done.added:
        console.print_rows(("table", "new rows"), list(done.added.items()))
    else:
        console.say(f"nothing new in {other}")
    if done.forgotten:
        stay = counted(done.forgotten, "response stays forgotten", "responses stay forgotten")
        console.say(f"{stay} here; icl db forget --allow-again lets them in")
    if done.differing:
        differing = counted(len(done.differing), "response differs", "responses differ")
        console.say(f"{differing} from those of {other}; these are kept:", style="yellow")
        console.print_found(store.named(db, "responses_by_id", [list(done.differing)]))


@db.command("forget")
@click.option("--where", "condition", help="SQL condition over the columns of view responses.")
@options.selection
@click.option("--query", "query_id", help="Only this query.")
@click.option("--finish-reason", help="Only responses with this finish_reason.")
@click.option("--run", "run_id", help="Only responses of this run.")
@click.option("--allow-again", is_flag=True, help="Remove nothing; let runs make all forgotten responses again.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@options.db
def forget(
    condition: str | None, chosen: Selection, allow_again: bool, yes: bool, db: Path, **columns: str | None
) -> None:
    """Remove responses with their errors, judgments and scores.

    Every condition given must hold. A rebuild, a merge or a run does not bring them back; --allow-again lifts this for
    all.

    Example: icl db forget --model "Llama3.2 1B" --where "created_at < '2026-11-01'"
    """
    equal = {column: value for column, value in columns.items() if value is not None}
    if allow_again:
        if condition is not None or equal or chosen:
            raise click.UsageError("--allow-again is for all forgotten responses; leave the conditions out")
        console.say(f"{counted(upkeep.allow_again(db), 'row')} may be made again")
        return
    if condition is None and not equal and not chosen:
        raise click.UsageError("select responses with --model, --method, --lang, ... or --where")
    found = upkeep.matching(db, chosen, condition=condition, equal=equal)
    if not found:
        console.say("no response matches; nothing was removed")
    elif yes or _confirmed(f"Remove {counted(len(found), 'response')} with their judgments, for good?"):
        console.say(f"{counted(upkeep.forget(db, found), 'response')} removed")
    else:
        console.say("nothing was removed")


def _confirmed(question: str) -> bool:
    try:
        return click.confirm(question, err=True)
    except click.Abort:  # no answer: standard input is closed
        console.say("give --yes to remove them without a question")
        return False


@db.command("doctor")
@click.option("--repair", is_flag=True, help="Rebuild the database from its spool; the old file is kept beside it.")
@options.db
def doctor(repair: bool, db: Path) -> int:
    """Show what is installed and missing, and check the database.

    Exit status 1 if the database is gone, lacks rows or differs from its spool.

    Example: icl db doctor --db icl.duckdb
    """
    if repair:
        _repair(db)
    else:
        _installation()
    if not store.exists(db) and not store.lost(db):
        console.say(f"no database {db} yet")
        return 0
    findings = upkeep.check(db)
    for finding in findings:
        console.say(finding.message, style="red" if finding.damage else "")
    if any(finding.damage for finding in findings):
        remedy = "the rest cannot be repaired" if repair else f"try: icl db doctor --repair --db {shell(db)}"
        console.say(f"{db} needs attention; {remedy}")
        return 1
    ((n,),) = store.query(db, "select count(*) from raw.responses").rows
    console.say(f"{db} is intact: {n:,} responses" if n else f"{db} is empty: it holds no responses")
    return 0


def _installation() -> None:
    try:
        info = engine.system_info()
        built = [(f"llama.cpp {name}", str(info[name])) for name in ("llama_build", "cpu_features", "gpu")]
    except EngineError as error:  # not built, or built for another machine
        built = [("llama.cpp", f"does not load ({error}); run: pip install --force-reinstall llama-cpp-python")]
    facts = [("icl-local", __version__), ("Python", platform.python_version()), ("system", platform.platform())]
    console.print_rows(("part", "what"), [*facts, *built], "This machine")
    console.print_rows(
        ("package", "wanted", "installed", "for"),
        [(one.name, one.required, one.version or "missing", one.extra or "all") for one in environment.packages()],
        title="Packages",
    )
    for name, remedy in environment.missing().items():
        console.say(f"{name} is not installed; run: {remedy}")


def _repair(db: Path) -> None:
    done = upkeep.rebuild(db, accept=_accept)
    console.print_rows(("table", "rows"), list(done.rows.items()), "Rebuilt from the spool")
    if done.adopted:
        console.say(f"recovered from the old file only: {counted(done.adopted, 'row')}")
    if done.kept_aside:
        console.say(f"the old file is kept as {done.kept_aside}; delete it when you no longer need it")
    sys.stdout.flush()


def _accept(lost: Sequence[str]) -> bool:
    for sentence in lost:
        console.say(f"cannot be restored: {sentence}", style="red")
    return not sys.stdin.isatty() or click.confirm("Replace the database by what can be restored?", err=True)


@click.group("machine")
def machine() -> None:
    """Find exact settings for this machine and measure its speed.

    Example: icl machine probe --model model.gguf
    """


@machine.command("probe")
@click.option(
    "--model", required=True, type=values.MODEL, help="GGUF file, hf:owner/repo/file, or a name of `icl models list`."
)
@click.option("--method", default="zero-shot", type=values.METHOD, help="Method whose variant of the model is probed.")
@click.option("--dpo", is_flag=True, help="Probe the DPO-trained variant of a registry model.")
@click.option("--prompts", "n_prompts", type=values.COUNT, default=64, help="Number of prompts.")
@click.option("--tokens", "n_tokens", type=values.COUNT, default=64, help="New tokens for each prompt.")
@click.option("--prefix-words", type=values.NATURAL, default=600, help="Words that all prompts share.")
@click.option("--at-once", "sizes", type=values.Sizes(), default="2,8,16", help="Batch sizes compared.")
@click.option("--first", is_flag=True, help="Stop at the first exact setting; faster ones may follow it.")
@click.option("--quick", is_flag=True, help="The bounded probe that `icl run` makes.")
@click.option("--also-unified", is_flag=True, help="Try one unified KV buffer too, which is seldom exact.")
@options.engine
@options.rows
def probe_(db: Path, **given: Any) -> int:
    """Find settings in which batching changes nothing for a file.

    Prompts are decoded one at a time without sharing their prefix, then in batches of several sizes, in another
    order, and stopped and resumed; logits are compared bit by bit. The batch size that was fastest is compared too.
    `icl run` uses the stored result, for every database on this machine.

    Example: icl machine probe --model model.gguf
    """
    if given["quick"]:
        options.refuse_idle("--quick is the probe of icl run", *THOROUGH)
    with progress.Display() as display:
        results = probe.probe_model(db, on_event=console.say, on_step=display.on_step, **given)
    console.print_rows(probe.COLUMNS, [probe.row(result) for result in results])
    return 0 if any(result.exact for result in results) else 1


@machine.command("build")
@options.output_format
def build() -> None:
    """Show which processor instructions the installed llama.cpp uses.

    It compares the rates of several builds where `icl machine probe` has measured one model file with them.

    Example: icl machine build
    """
    facts = engine.system_info()
    unused = engine.unused_instructions(facts["cpu_features"])
    lacks = "unknown on this system" if unused is None else " ".join(unused) or "none: built for this processor"
    row = (facts["llama_build"], facts["cpu_features"], lacks, facts["gpu"])
    console.print_rows(("llama.cpp", "instructions used", "not used", "gpu"), [row])
    if unused:
        console.say(REBUILD.format(package=facts["package"]))
    for compared in probe.other_builds(facts["cpu_features"]):
        console.say(compared)


@machine.command("bench")
@click.option(
    "--model",
    default="smollm2-135m",
    type=values.MODEL,
    help="GGUF file, hf:owner/repo/file, or a name of `icl models list`.",
)
@click.option("--shape", type=click.Choice(["1b"]), help="Random weights of Llama 3.2 1B's shape, built on the spot.")
@click.option("--type", "type_name", default="q4_0", help="GGUF type of --shape: q4_0, q8_0, q4_k_m.")
@click.option("--queries", "source", default="samples", help="FILE or `samples`.")
@click.option("--limit", type=values.COUNT, default=64, help="Number of queries.")
@click.option("--max-tokens", type=values.COUNT, default=64, help="New tokens a query.")
@click.option("--at-once", "parallels", type=values.Sizes(), default="1,8,16,32", help="Batch sizes to time.")
@click.option(
    "--contenders",
    type=values.Names(),
    default="create_completion,server,transformers fp32,transformers bf16",
    help="Programs to compare with, or `none`.",
)
@click.option("--server", "servers", multiple=True, help="Base URL of a running OpenAI-compatible server.")
@click.option(
    "--batched-bench", type=values.EXISTING_FILE, help="A llama-batched-bench program: the limit of batched decoding."
)
@click.option("--runs", type=values.COUNT, default=1, help="Repeat all, and show ranges.")
@click.option("--parallel", type=values.Auto(min=1), hidden=True, help="Refused: --at-once says it.")
@options.gpu_layers
@options.threads
@options.rows
def bench_(db: Path, parallel: int | None, **given: Any) -> None:
    """Time the same work by this engine and by others, in one run.

    The work is greedy answers to URIAL prompts. Rates are generated tokens over all seconds, the shared prefix
    included; only ratios are meaningful. A --server gets as many requests at once as --at-once says, cold and then with
    the same prompts again (warm).

    Example: icl machine bench --limit 16 --max-tokens 32
    """
    options.refuse_idle("--at-once says how many sequences are decoded at once", "parallel")
    if given["shape"] is None:
        options.refuse_idle("only --shape makes a file of a type", "type_name")
    else:
        options.refuse_idle("--shape makes a model of its own", "model")
    name, table = bench.run(db, **given, on_event=console.say)
    console.print_found(table, name)
