"""`icl db doctor`: check the installation and the database."""

from __future__ import annotations

import platform
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from icl_local import __version__
from icl_local.cli import console
from icl_local.cli.options import db_option
from icl_local.exceptions import EngineError
from icl_local.wording import counted


@click.command("doctor")
@click.option("--repair", is_flag=True, help="Rebuild the database from its spool; the old file is kept beside it.")
@db_option
@click.pass_context
def command(context: click.Context, repair: bool, db: Path) -> None:
    """Show what is installed, how it was built and what is missing, and check the database.

    Exit status 1 if the database lacks rows or differs from its spool.

    Example: icl db doctor --db icl.duckdb
    """
    from icl_local import store
    from icl_local.store import upkeep

    if repair:
        _repair(db)
    else:
        _installation()
    if not store.exists(db):
        console.say(f"no database {db} yet")
        return
    findings = upkeep.check(db)
    for finding in findings:
        console.say(finding.message, style="red" if finding.damage else "")
    damaged = any(finding.damage for finding in findings)
    remedy = "the rest cannot be repaired" if repair else f"try: icl db doctor --repair --db {db}"
    if damaged:
        console.say(f"{db} needs attention; {remedy}")
        context.exit(1)
    ((n,),) = store.query(db, "select count(*) from raw.responses").rows
    console.say(f"{db} is whole: {n:,} responses" if n else f"{db} is empty: it holds no responses")


def _installation() -> None:
    from icl_local import environment

    facts = [("icl-local", __version__), ("Python", platform.python_version()), ("system", platform.platform())]
    console.print_rows(("part", "what"), [*facts, *_llama_cpp()], title="This machine")
    console.print_rows(
        ("package", "wanted", "installed", "for"),
        [(one.name, one.required, one.version or "missing", one.extra or "all") for one in environment.packages()],
        title="Packages",
    )
    for extra, remedy in environment.missing_extras().items():
        console.say(f"{extra} is not complete; run: {remedy}")


def _llama_cpp() -> list[tuple[str, str]]:
    from icl_local.engine import system_info

    try:
        info = system_info()
    except EngineError as error:  # not built, or built for another machine
        return [("llama.cpp", f"does not load ({error}); run: pip install --force-reinstall llama-cpp-python")]
    return [(f"llama.cpp {name}", str(info[name])) for name in ("llama_build", "cpu_features", "gpu")]


def _repair(db: Path) -> None:
    from icl_local.store import upkeep

    done = upkeep.rebuild(db, accept=_accept)
    console.print_rows(("table", "rows"), list(done.rows.items()), title="Rebuilt from the spool")
    if done.adopted:
        console.say(f"taken over from the old file alone: {counted(done.adopted, 'row')}")
    if done.kept_aside:
        console.say(f"the old file is kept as {done.kept_aside}; delete it when you no longer need it")
    sys.stdout.flush()


def _accept(lost: Sequence[str]) -> bool:
    for sentence in lost:
        console.say(f"cannot be restored: {sentence}", style="red")
    return not sys.stdin.isatty() or click.confirm("Replace the database by what can be restored?", err=True)
