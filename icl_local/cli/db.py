"""`icl db`: copy, merge, clean and check the database."""

from icl_local.cli import LazyGroup

command = LazyGroup(
    "db",
    help="""Copy, merge, clean and check the database.

    Example: icl db doctor --db icl.duckdb
    """,
    groups={
        "Commands": {
            "snapshot": ("snapshot", "Write a consistent copy of the database."),
            "merge": ("merge", "Add the rows of another database to this one."),
            "forget": ("forget", "Remove responses by a condition, for good."),
            "doctor": ("doctor", "Check the installation and the database, and repair it."),
        }
    },
)
