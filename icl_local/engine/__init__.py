"""Exact, batched, prefix-sharing decoding and scoring with llama.cpp in a worker process.

The only room that imports llama_cpp, and that only inside the worker process.
"""

from icl_local.engine.cpu import unused_instructions
from icl_local.engine.exact import ProbeResult, ProbeStep
from icl_local.engine.file_tasks import file_types, prompt_logits, quantize, system_info, tokenize
from icl_local.engine.memory import DEFAULT_PARALLEL, available_memory, default_kv_type, kv_bytes_per_token
from icl_local.engine.protocol import Completion, EngineInfo, EngineOptions, Request, Stats
from icl_local.engine.sampling import Sampling
from icl_local.engine.sequences import shared_length, tokens_to_prefill
from icl_local.engine.worker import OpenWorker, Worker
