"""`icl machine build`: whether llama.cpp here is built for this processor."""

from __future__ import annotations

import click

from icl_local.cli import console
from icl_local.cli.options import format_option

COLUMNS = ("llama.cpp", "instructions used", "not used", "gpu")
REBUILD = """\
A ready build leaves out what not every processor has. To compile llama.cpp for this one (some minutes):
  CMAKE_ARGS=-DGGML_NATIVE=ON pip install --force-reinstall --no-deps --no-cache-dir \
--no-binary llama-cpp-python llama-cpp-python=={package}
Then probe a model again: icl machine probe --quick --model FILE"""


@click.command("build")
@format_option
def command(output_format: str) -> None:
    """Show the installed llama.cpp: which instructions of this processor it uses, and what others were measured to add.

    Rates are those of stored probes of one model file by several builds on this machine.

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
