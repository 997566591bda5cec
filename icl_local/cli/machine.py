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
            "build": ("build", "Show which of this processor's instructions llama.cpp uses."),
            "bench": ("bench", "Compare the speed with that of other tools."),
        }
    },
)
