"""llama-cpp-python's own server without the kernels that ``repacks`` avoids: python -m tests.llama_server ARGUMENTS."""

from __future__ import annotations

import runpy
import sys
from typing import Any

import llama_cpp.llama_cpp as binding

from icl_local.engine.llama import repacks
from icl_local.engine.protocol import EngineOptions

if __name__ == "__main__":
    defaults, repack = binding.llama_model_default_params, repacks(EngineOptions())

    def model_params() -> Any:
        params = defaults()
        params.use_extra_bufts = repack
        return params

    binding.llama_model_default_params = model_params
    sys.argv[0] = "llama_cpp.server"
    runpy.run_module("llama_cpp.server", run_name="__main__")
