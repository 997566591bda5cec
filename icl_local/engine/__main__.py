"""``python -m icl_local.engine FLAG_FILE``: the worker process; see icl_local.engine.worker."""

import sys

from icl_local.engine.worker import main

main(sys.argv[1])
