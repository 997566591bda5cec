"""``python -m icl_local.engine``: the worker process; see icl_local.engine.service."""

from icl_local.engine.service import main

main()
