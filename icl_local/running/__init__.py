"""Making the responses that are missing, on this machine, a server or a cluster.

Cells are planned, a model file is probed, and each response is stored as it ends.
"""

from icl_local.running.cells import Cell, CellPlan, Decoding, load_queries
from icl_local.running.cluster import Cluster
from icl_local.running.run import Event
from icl_local.running.server import open_server
from icl_local.running.shard import Shard

__all__ = ["Cell", "CellPlan", "Cluster", "Decoding", "Event", "Shard", "load_queries", "open_server"]
