"""Results for readers: the paper's tables and figures, the report, answers side by side.

Every number comes from a SQL view.
"""

from icl_local.results.browse import Browser
from icl_local.results.critical_errors import error_table
from icl_local.results.figures import Drawing, draw_figure
from icl_local.results.paper_tables import build_tables
from icl_local.results.report import Report
from icl_local.results.report import render as render_page
from icl_local.results.report import write as write_report
from icl_local.results.serve import PageServer
from icl_local.results.shift import shift_tables
from icl_local.results.tables import Table, inert, table_of
from icl_local.results.trust import trust_tables
