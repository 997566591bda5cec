"""llama-cpp-python's own server with the kernels that the engine chooses: python -m tests.llama_server ARGUMENTS."""

from __future__ import annotations

import runpy
import sys
from typing import Any

import llama_cpp.llama_cpp as binding

from icl_local.engine.llama import repacks
from icl_local.engine.protocol import EngineOptions


def use_kernels_of_the_engine() -> None:
    """Let llama-cpp-python in this process repack weights only where the engine does."""
    defaults, repack = binding.llama_model_default_params, repacks(EngineOptions())

    def model_params() -> Any:
        params = defaults()
        params.use_extra_bufts = repack
        return params

    binding.llama_model_default_params = model_params


if __name__ == "__main__":
    use_kernels_of_the_engine()
    sys.argv[0] = "llama_cpp.server"
    runpy.run_module("llama_cpp.server", run_name="__main__")
