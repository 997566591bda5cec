"""`icl machine`: exact settings and speed of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from icl_local.cli import console, options, values

COLUMNS = ("llama.cpp", "instructions used", "not used", "gpu")
REBUILD = """\
A ready build leaves out what not every processor has. To compile llama.cpp for this one (some minutes):
  CMAKE_ARGS=-DGGML_NATIVE=ON pip install --force-reinstall --no-deps --no-cache-dir \
--no-binary llama-cpp-python llama-cpp-python=={package}
Then probe a model again: icl machine probe --quick --model FILE"""


@click.group("machine")
def machine() -> None:
    """Find exact settings of this machine and measure its speed.

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
def probe(output_format: str, db: Path, **given: Any) -> int:
    """Find settings in which batching changes nothing for a file.

    Prompts are decoded one at a time without sharing their prefix, then in batches of several sizes, in another
    order, and stopped and resumed; logits are compared bit by bit. The batch size that was fastest is compared too.
    `icl run` uses the result that is stored, for every database of this machine.

    Example: icl machine probe --model model.gguf
    """
    from icl_local.cli.progress import Display
    from icl_local.running import probe

    with Display() as display:
        results = probe.probe_model(db, on_event=console.say, on_step=display.on_step, **given)
    console.print_rows(probe.COLUMNS, [probe.row(result) for result in results], output_format=output_format)
    return 0 if any(result.exact for result in results) else 1


@machine.command("build")
@options.output_format
def build(output_format: str) -> None:
    """Show which processor instructions the installed llama.cpp uses.

    It compares the rates of several builds where `icl machine probe` has measured one model file with them.

    Example: icl machine build
    """
    from icl_local import engine
    from icl_local.running import probe

    facts = engine.system_info()
    unused = engine.unused_instructions(facts["cpu_features"])
    lacks = "unknown on this system" if unused is None else " ".join(unused) or "none: built for this processor"
    row = (facts["llama_build"], facts["cpu_features"], lacks, facts["gpu"])
    console.print_rows(COLUMNS, [row], output_format=output_format)
    if unused:
        console.say(REBUILD.format(package=facts["package"]))
    for other in probe.other_builds(facts["cpu_features"]):
        console.say(other.sentence())


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
@options.engine
@options.rows
def bench(output_format: str, db: Path, **given: Any) -> None:
    """Time the same work by this engine and by others, in one run.

    The work is greedy answers to URIAL prompts. Rates are generated tokens over all seconds, the shared prefix
    included; only ratios are meaningful. A --server gets as many requests at once as --at-once says, cold and then with
    the same prompts again (warm).

    Example: icl machine bench --limit 16 --max-tokens 32
    """
    from icl_local import bench

    made = bench.run(db, **given, on_event=console.say)
    console.print_rows(made.table.columns, made.table.rows, output_format=output_format, title=made.model)
