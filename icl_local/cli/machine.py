"""`icl machine`: exact settings and speed of this machine."""

from icl_local.cli import LazyGroup

command = LazyGroup(
    "machine",
    help="""Find exact settings of this machine and measure its speed.

    Example: icl machine probe --model model.gguf
    """,
    groups={
        "Commands": {
            "probe": ("probe", "Find fast settings in which batching changes nothing."),
            "bench": ("bench", "Compare the speed with that of other tools."),
        }
    },
)
