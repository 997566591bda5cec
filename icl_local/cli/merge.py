"""`icl db merge`: the rows of another database."""

from __future__ import annotations

from pathlib import Path

import click

from icl_local.cli import console
from icl_local.cli.options import db_option
from icl_local.wording import counted


@click.command("merge")
@click.argument("other", type=click.Path(exists=True, path_type=Path))
@db_option
def command(other: Path, db: Path) -> None:
    """Add the rows of OTHER to this database: a database, a spool folder, or a folder of `icl export --what all`.

    If both have a response and its texts differ, this database keeps its own and lists it.

    Example: icl db merge laptop2.duckdb --db icl.duckdb
    """
    from icl_local.exchange import merge
    from icl_local.store import Store, named

    with Store(db) as target:
        done = merge.merge(target, other)
    console.print_rows(("table", "new rows"), list(done.added.items()))
    if done.differing:
        differing = counted(len(done.differing), "response differs", "responses differ")
        console.say(f"{differing} from those of {other}; these are kept:", style="yellow")
        found = named(db, "responses_by_id", [list(done.differing)])
        console.print_rows(found.columns, found.rows)
