"""``python -m icl_local.engine [FLAG_FILE]``: the worker process; see icl_local.engine.service."""

import sys

from icl_local.engine.service import main

main(*sys.argv[1:2])
