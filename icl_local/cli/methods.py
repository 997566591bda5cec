"""`icl methods`: the prompt of a method, its examples and its tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from icl_local.cli import console, options, values


@click.command("methods")
@click.argument("names", metavar="[NAME]", required=False, type=values.METHODS)
@click.option("--lang", "language", default="en", type=values.LANGUAGE, help="Language of the query.")
@click.option("--model", type=values.MODEL, help="File or name whose tokens are counted.")
@click.option("--query", default="...", help="Text of the query, by which examples are retrieved.")
@options.pool
@options.prompt_dir
@options.output_format
def methods(
    names: list[str] | None, pool: tuple[str, ...], prompt_dir: Path | None, output_format: str, **given: Any
) -> None:
    """Show a method's prompt, its examples and its tokens; without NAME the methods.

    Example: icl methods 'urial[k=1]' --lang es --model model.gguf
    """
    from icl_local import prompting, running

    if names is None:
        known = [(one.name, one.kind, one.description) for one in prompting.methods(prompt_dir).values()]
        console.print_rows(("method", "kind", "description"), known, output_format=output_format)
        return
    parts = running.method_parts(names, pools=running.load_pools(pool), overlay=prompt_dir, **given)
    if output_format != "text":
        rows = [(one.method, one.part, one.tokens, len(one.text), one.text) for one in parts]
        console.print_rows(("method", "part", "tokens", "characters", "text"), rows, output_format=output_format)
        return
    for method in dict.fromkeys(one.method for one in parts):
        of_method = [one for one in parts if one.method == method]
        console.print_panels([(method, "".join(one.text for one in of_method), "")])
        counts = [(one.part, one.tokens, len(one.text)) for one in of_method]
        tokens = None if given["model"] is None else sum(one.tokens or 0 for one in of_method)
        counts.append(("all", tokens, sum(len(one.text) for one in of_method)))
        console.print_rows(("part", "tokens", "characters"), counts, output_format=output_format)
