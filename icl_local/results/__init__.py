"""What a reader sees: the paper's tables and figures, the report, answers side by side.

Every number comes from a SQL view.
"""

from icl_local.results.tables import inert, render

__all__ = ["inert", "render"]
