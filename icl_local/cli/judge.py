"""Commands about judges and the labels of people: judge, sample, browse, trust, equate."""

from __future__ import annotations

import contextlib
import webbrowser
from pathlib import Path
from typing import Any

import click

import icl_local
from icl_local import judging, results
from icl_local.cli import console, options, values
from icl_local.store import Selection
from icl_local.vocabulary import SAMPLED_ERRORS
from icl_local.wording import shell


@options.defaults_of(icl_local.judge)
@click.command("judge")
@click.option(
    "--judge",
    required=True,
    type=values.JUDGE,
    help="openai:MODEL[@URL], rules, or local: with a GGUF file or a name of `icl models list`.",
)
@click.option("--plan", is_flag=True, help="Only show what is missing, its tokens and its price.")
@click.option("--batch", is_flag=True, help="Use the Batch API: half the price, within a day.")
@click.option("--collect", is_flag=True, help="With --batch: send nothing, read the finished batches.")
@click.option("--wait", is_flag=True, help="With --batch: wait until all batches are finished.")
@click.option("--poll", type=click.FloatRange(min=1), help="Seconds between checks with --wait.")
@options.max_cost
@options.prices
@click.option("--repeat", type=values.COUNT, help="Verdicts for each response.")
@click.option(
    "--retry",
    type=values.Names(),
    help="Request judgments again that ended as refused, truncated, parse_error, rejected, incomplete or out_of_range.",
)
@click.option("--variant", help="published or rubric-first (for local judges).")
@click.option("--template", multiple=True, help="just-eval=PATH: prompts from a clone of just-eval or a judgment file.")
@options.only
@click.option("--sample", help="Only the answers of this sample: icl sample draw.")
@click.option("--draws", type=values.COUNT, help="Only the first N draws of each query, where responses are sampled.")
@click.option("--limit", type=values.COUNT, help="Only the first N missing judgments.")
@options.concurrency
@click.option("--timeout", type=click.FloatRange(min=1), help="Seconds to wait for a reply.")
@click.option("--max-tokens", type=values.COUNT, help="Maximum number of tokens of an API judge's verdict.")
@click.option("--reasoning-effort", help="Reasoning effort of an API judge, such as none or low.")
@options.shard
@options.engine
@options.cluster
@options.prompt_dir
@options.rows
def judge(db: Path, **given: Any) -> None:
    """Score stored responses with an LLM judge or by rules.

    Existing judgments are kept. The same command retries those that failed; --retry requests a further attempt where
    the judge gave no scores. An API judge reads OPENAI_API_KEY and OPENAI_BASE_URL; a local judge needs neither network
    nor money.

    Example: icl judge --judge local:smollm2-135m --limit 20

    Example: icl judge --judge rules

    Example: icl judge --judge openai:gpt-6-luna --lang en --plan
    """
    if not given["plan"]:
        options.refuse_idle("only --plan prints rows", "output_format")
    idle = [name for name in judging.idle_options(given["judge"]) if not options.typed(name)]  # the environment's
    result = icl_local.judge(db, **{name: value for name, value in given.items() if name not in idle})
    if result.preview is not None:
        console.print_found(result.preview)
    elif given["batch"] and result.collected is None:
        console.say("the same command with --collect reads the verdicts later")
    elif result.progress is not None and result.progress.missing:
        console.say("the same command retries the judgments that failed")
    if names := result.without_scores:
        listed = ", ".join(f"'{name}'" for name in names)
        columns = "response_id, status, error, raw_reply"
        console.say(f'see: icl sql "select {columns} from judgments where status in ({listed})" --db {shell(db)}')
        now = " without --collect" if given["collect"] else ""
        console.say(f"again: the same command{now} with --retry {','.join(names)}")


@click.group("sample")
def sample() -> None:
    """Draw random samples of answers for people to label, and list them.

    Example: icl sample list
    """


@sample.command("draw")
@click.argument("name")
@click.option("--per-cell", type=values.COUNT, required=True, help="Answers of each cell and stratum.")
@click.option("--seed", type=values.NATURAL, required=True, help="Same seed, same queries.")
@click.option("--by", type=click.Choice(["task"]), help="Draw from each task separately.")
@click.option("--errors", type=click.Choice(SAMPLED_ERRORS), help="Draw from flagged answers and from the others.")
@click.option("--judged-by", "judge", type=values.STORED_JUDGE, help="Only answers that this judge scored.")
@click.option("--plan", is_flag=True, help="Store nothing; show how wide intervals would be, and the hours of work.")
@options.selection
@options.rows
def draw(name: str, by: str | None, errors: str | None, chosen: Selection, db: Path, **given: Any) -> None:
    """Draw the same random queries in every cell, for people to label.

    `icl browse --rate NAME` shows their answers to a rater. A larger --per-cell under the same name keeps what is
    labelled. Each split, or stratum of --by, gets this number of answers. With --errors raters say if an answer
    has the error, and `icl trust` corrects the error rate.

    Example: icl sample draw PILOT --per-cell 100 --seed 1 --lang en --split multi

    Example: icl sample draw PILOT --per-cell 100 --seed 1 --method zero-shot,urial --plan

    Example: icl sample draw LOOPS --per-cell 50 --seed 1 --errors infinite_loop
    """
    if by and errors:
        raise click.UsageError("--by or --errors, not both")
    made = judging.draw_sample(db, name, chosen, by=by or errors, **given)
    console.print_found(made)
    if not given["plan"]:
        console.say(f"next: icl browse --rate {shell(name)} --rater YOUR-NAME --db {shell(db)}")


@sample.command("list")
@options.rows
def list_samples(db: Path) -> None:
    """List the samples, their raters and labels.

    Example: icl sample list --format csv
    """
    console.print_found(judging.list_samples(db))


@options.defaults_of(icl_local.report)
@click.command("browse")
@click.option("--rate", "sample", type=values.SAMPLE, help="Rate this sample, blind.")
@click.option("--rater", help="Your name, stored with each label: letters, digits, _ and -.")
@options.shown
@click.option("--responses", type=values.NATURAL, help="Maximum number of responses shown.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port on this machine; by default a free one.")
@click.option("--open/--no-open", "show", default=True, help="Open the page in the browser.")
@options.prompt_dir
@options.db
def browse(
    sample: str | None, rater: str | None, port: int, show: bool, prompt_dir: Path | None, db: Path, **given: Any
) -> None:
    """Show answers, tables, figures and the current run in the browser; with --rate, ask for scores.

    The page is for this machine alone and ends with Ctrl-C. A label is on disk when the page says
    "Saved"; the same command continues where the rater stopped. A rater's page shows no model,
    method or score. Press ? there for its keys.

    Example: icl browse

    Example: icl browse --rate PILOT --rater ana
    """
    if (sample is None) != (rater is None):
        raise click.UsageError("--rate and --rater belong together")
    if sample is not None:
        options.refuse_idle("a rater's page shows no tables and scores", *given)
    else:
        options.refuse_idle("only a rater's page, --rate, has texts of a prompt folder", "prompt_dir")
    with contextlib.ExitStack() as stack:
        if sample is not None and rater is not None:
            rating = stack.enter_context(judging.open_rating(db, sample, rater, overlay=prompt_dir))
            server = judging.rating_page(rating, port=port)
        else:
            browser = results.Browser(db, max_responses=given.pop("responses"), **given)
            server = results.PageServer(browser.routes(), {}, port=port)
            console.say(f"reading {db}")
            browser.page()
        stack.enter_context(server)
        click.echo(server.url)
        console.say("Ctrl-C ends the page")
        if show and not webbrowser.open(server.url):
            console.say("no browser here; open the address yourself", style="yellow")
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()


@options.defaults_of(icl_local.trust)
@click.command("trust")
@click.option("--judge", type=values.STORED_JUDGE, help="Judge to compare; without one, only error rates.")
@click.option(
    "--reference",
    type=values.STORED_JUDGE,
    help="human: the mean of the raters; human without NAME: of the others; or a judge that scored a sample.",
)
@click.option("--sample", help="Only labels of this sample.")
@options.reading
@options.rows
def trust(db: Path, **given: Any) -> None:
    """Compare a judge with human raters or another judge, and correct its means by their labels.

    First the agreement, then the judge's bias, corrected means of the cells with 95 % intervals, and differences
    between cells. Error rates, corrected by the labels of `icl sample draw --errors`, need no judge. csv and json have
    every column of the views. docs/trust.md says what each number may be used for.

    Example: icl trust --judge openai:gpt-4o-mini

    Example: icl trust --sample LOOPS
    """
    console.print_tables(icl_local.trust(db, whole=console.whole(), **given))


@click.command("equate")
@click.option("--from", "from_judge", required=True, type=values.STORED_JUDGE, help="Judge to map.")
@click.option("--to", "to_judge", required=True, type=values.STORED_JUDGE, help="Judge whose scale the scores get.")
@click.option("--sample", help="Anchors: answers of this sample; by default all that both judges scored.")
@click.option("--method", type=click.Choice(["linear", "mean"]), default="linear", help="mean: only a shift.")
@click.option("--seed", type=values.NATURAL, default=0, help="Same seed, same rows.")
@click.option("--samples", type=values.COUNT, default=2000, help="Resamples of the queries.")
@options.rows
def equate(db: Path, **given: Any) -> None:
    """Map one judge's scores to the scale of another, by answers that both scored, and store the maps.

    A map that does not hold is stored as refused, with the reason. `icl tables 1 --equated-to JUDGE` prints means on
    the other scale.

    Example: icl equate --from openai:gpt-6-luna --to just-eval:gpt-4-0314 --sample ANCHORS --seed 1
    """
    found = judging.equate(db, **given)
    console.print_found(found)
    kept = sum(row["refused"] is None for row in found.dicts())
    hint = f"next: icl tables 1 --equated-to {shell(given['to_judge'])} --db {shell(db)}"
    console.say(f"{kept} of {len(found)} maps hold; {hint}")
