"""Exact, batched, prefix-sharing greedy decoding with llama.cpp in a worker process.

The only room that imports llama_cpp.
"""

from icl_local.engine.exact import ProbeResult
from icl_local.engine.plan import DEFAULT_PARALLEL, available_memory, default_kv_type, kv_bytes_per_token
from icl_local.engine.protocol import Completion, DecodeProgress, EngineInfo, EngineOptions, Request, Stats
from icl_local.engine.worker import Worker

__all__ = [
    "DEFAULT_PARALLEL",
    "Completion",
    "DecodeProgress",
    "EngineInfo",
    "EngineOptions",
    "ProbeResult",
    "Request",
    "Stats",
    "Worker",
    "available_memory",
    "default_kv_type",
    "kv_bytes_per_token",
]
