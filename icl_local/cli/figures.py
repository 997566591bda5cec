"""`icl figures`: the paper's figures as files."""

from __future__ import annotations

from pathlib import Path

import click

from icl_local.cli import console, options, values

NAMES = ("2", "3", "4", "size", "shift", "decoding")


@click.command("figures")
@click.argument("names", nargs=-1, type=click.Choice(NAMES), metavar="[2|3|4|size|shift|decoding]...")
@click.option("-o", "--output", "folder", type=values.FOLDER, default="figures", help="Folder for the files.")
@click.option("--published", is_flag=True, help="Draw the paper's own cells.")
@click.option("--theme", type=click.Choice(["light", "dark"]), default="light", help="Background.")
@options.judge
@options.db
def command(names: tuple[str, ...], folder: Path, published: bool, theme: str, judge: str | None, db: Path) -> None:
    """Draw the paper's figures from your rows, as PNG and SVG.

    2: languages. 3: DPO. 4: critical errors. size: scores by model size. shift: of tokens. decoding: loops, unintended
    code and other languages by temperature, where a cell has several.

    Example: icl figures 2 4 -o figures
    """
    from icl_local.results import figures, paper_tables

    with paper_tables.open_views(db, origin="published" if published else "ours", judge=judge) as views:
        written = figures.save(views, folder, names=names or NAMES, theme=theme)
    for path in written:
        click.echo(path)
    drawn = {path.stem.removeprefix("figure_") for path in written}
    for name in names or NAMES:
        if name not in drawn:
            console.say(f"{figures.TITLES[name]}: no rows for it in {db} yet")
