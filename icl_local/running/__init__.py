"""Generating the responses that are missing, on this machine, a server or a cluster.

Cells are planned, a model file is probed, and each response is stored as it ends.
"""

from icl_local.running.cell_run import CellResult, Event
from icl_local.running.cells import CHOICES, COLUMNS, Cell, CellPlan, Decoding, plan_cells, preview_cells
from icl_local.running.cluster import open_cluster
from icl_local.running.local_chat import LocalChat, open_chat
from icl_local.running.prompt_parts import method_parts
from icl_local.running.query_sets import load_pools, load_queries, load_set, read_items
from icl_local.running.run import run_cells
from icl_local.running.server import open_server
from icl_local.running.shard import Shard
from icl_local.running.verify import verify_responses
