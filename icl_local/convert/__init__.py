"""Checkpoints to GGUF files, with proof."""

from icl_local.convert.checkpoint import Checkpoint, read_json, tokenizer_of
from icl_local.convert.convert import Conversion, convert, quantize
from icl_local.convert.model_source import ModelSource, locate
