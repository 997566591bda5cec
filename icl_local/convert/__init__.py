"""Checkpoints to GGUF files, with proof.

A converted or quantized file passes a parity gate before it is used.
"""

from icl_local.convert.checkpoint import TOKENIZER_FILES, Checkpoint, Shape, read_json
from icl_local.convert.convert import convert, quantize
from icl_local.convert.model_source import ModelSource

__all__ = ["TOKENIZER_FILES", "Checkpoint", "ModelSource", "Shape", "convert", "quantize", "read_json"]
