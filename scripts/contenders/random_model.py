"""Write an F16 GGUF file of a given shape with random weights, for `icl bench --shape`.

Speed does not depend on the values. The tokenizer comes from another file; ids beyond its vocabulary are unused ones.
Reads one JSON object from stdin: shape (layers, embd, heads, kv_heads, ff, vocab), tokenizer and path (files).
"""

from __future__ import annotations

import json
import sys

import gguf
import numpy as np


def write(path: str, tokenizer: str, *, layers: int, embd: int, heads: int, kv_heads: int, ff: int, vocab: int) -> None:
    """Write the file at ``path``; the seed is fixed."""
    source = gguf.GGUFReader(tokenizer)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_context_length(131072)
    writer.add_embedding_length(embd)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(ff)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(500000.0)
    writer.add_rope_dimension_count(embd // heads)
    writer.add_vocab_size(vocab)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    tokens = [str(t) for t in source.fields["tokenizer.ggml.tokens"].contents()]
    types = [int(t) for t in source.fields["tokenizer.ggml.token_type"].contents()]
    spare = range(len(tokens), vocab)
    writer.add_token_list([*tokens, *(f"[PAD{i}]" for i in spare)])
    writer.add_token_types([*types, *(int(gguf.TokenType.UNUSED) for _ in spare)])
    writer.add_token_merges([str(m) for m in source.fields["tokenizer.ggml.merges"].contents()])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(False)
    kv = embd // heads * kv_heads
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (vocab, embd), "output_norm.weight": (embd,)}
    for i in range(layers):
        block = {
            "attn_norm": (embd,),
            "attn_q": (embd, embd),
            "attn_k": (kv, embd),
            "attn_v": (kv, embd),
            "attn_output": (embd, embd),
            "ffn_norm": (embd,),
            "ffn_gate": (ff, embd),
            "ffn_up": (ff, embd),
            "ffn_down": (embd, ff),
        }
        shapes |= {f"blk.{i}.{name}.weight": shape for name, shape in block.items()}
    for name, shape in shapes.items():
        dtype = np.dtype(np.float32 if len(shape) == 1 else np.float16)
        writer.add_tensor_info(name, shape, dtype, int(np.prod(shape)) * dtype.itemsize)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    rng = np.random.default_rng(0)
    for shape in shapes.values():
        if len(shape) == 1:
            writer.write_tensor_data(np.ones(shape, dtype=np.float32))
        else:
            writer.write_tensor_data((rng.standard_normal(shape, dtype=np.float32) * 0.02).astype(np.float16))
    writer.close()


if __name__ == "__main__":
    job = json.load(sys.stdin)
    write(job["path"], job["tokenizer"], **job["shape"])
