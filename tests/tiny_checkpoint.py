"""Random Llama checkpoints of a few thousand weights, with tokenizers of the three families, written in a second."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np

from tests.tiny_model import byte_tokens

TRAINING_TEXT = [
    "The weather in the north was cold, and they wanted another answer: the second one.",
    "¿Cuántos años tenía la señora cuando escribió el último libro? ¡Qué sorpresa!",
    "L'été dernier, nous avons mangé des crêpes à l'aube ; c'était déjà l'anniversaire.",
    "# Query:\n```How do I write a table?```\n\n# Answer:\n```\nYou write it in the way that you want.```\n",
    "Съешь ещё этих мягких французских булок. 我们明天下午三点见面。",
    "def area(r):\n    return 3.14159 * r ** 2\n",
]
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA3_SPLIT = (
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*"
    "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
)
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
SPECIALS = {
    "smollm": ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
    "llama-bpe": ["<|begin_of_text|>", "<|end_of_text|>"],
    "sentencepiece": ["<unk>", "<s>", "</s>"],
}


def build_checkpoint(
    folder: Path,
    *,
    family: str = "smollm",
    n_layers: int = 2,
    hidden: int = 32,
    n_heads: int = 4,
    n_kv_heads: int = 2,
    intermediate: int = 64,
    n_pieces: int = 150,
    n_spare_rows: int = 3,
    tied: bool = True,
    dtype: str = "F32",
    rope: dict[str, Any] | None = None,
    n_shards: int = 1,
    scale: float = 0.3,
    seed: int = 0,
    **config: Any,
) -> Path:
    """Write config.json, safetensors and the tokenizer of ``family`` (smollm, llama-bpe or sentencepiece)."""
    folder.mkdir(parents=True, exist_ok=True)
    n_tokens = write_tokenizer(folder, family, n_pieces=n_pieces)
    vocab, head_dim = n_tokens + n_spare_rows, hidden // n_heads
    settings = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": vocab,
        "max_position_embeddings": 4096,
        "hidden_size": hidden,
        "num_hidden_layers": n_layers,
        "num_attention_heads": n_heads,
        "num_key_value_heads": n_kv_heads,
        "intermediate_size": intermediate,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "rope_scaling": rope,
        "tie_word_embeddings": tied,
        "hidden_act": "silu",
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    (folder / "config.json").write_text(json.dumps(settings | config))
    rng = np.random.default_rng(seed)

    def weight(*shape: int) -> np.ndarray:
        return rng.normal(0.0, scale, shape).astype(np.float32)

    tensors = {"model.embed_tokens.weight": weight(vocab, hidden), "model.norm.weight": 1 + weight(hidden)}
    for layer in range(n_layers):
        prefix = f"model.layers.{layer}."
        tensors |= {
            prefix + "input_layernorm.weight": 1 + weight(hidden),
            prefix + "self_attn.q_proj.weight": weight(n_heads * head_dim, hidden),
            prefix + "self_attn.k_proj.weight": weight(n_kv_heads * head_dim, hidden),
            prefix + "self_attn.v_proj.weight": weight(n_kv_heads * head_dim, hidden),
            prefix + "self_attn.o_proj.weight": weight(hidden, n_heads * head_dim),
            prefix + "post_attention_layernorm.weight": 1 + weight(hidden),
            prefix + "mlp.gate_proj.weight": weight(intermediate, hidden),
            prefix + "mlp.up_proj.weight": weight(intermediate, hidden),
            prefix + "mlp.down_proj.weight": weight(hidden, intermediate),
        }
    if not tied:
        tensors["lm_head.weight"] = weight(vocab, hidden)
    _write_shards(folder, tensors, dtype, n_shards)
    return folder


def write_safetensors(path: Path, tensors: dict[str, np.ndarray], *, dtype: str = "F32") -> None:
    """The format by hand, because numpy has no bfloat16."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    blobs, offset = [], 0
    for name, tensor in tensors.items():
        blob = _bytes(tensor, dtype)
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [offset, offset + len(blob)]}
        blobs.append(blob)
        offset += len(blob)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(blobs))


def _bytes(tensor: np.ndarray, dtype: str) -> bytes:
    if dtype == "BF16":
        return (tensor.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16).tobytes()
    return tensor.astype({"F32": np.float32, "F16": np.float16}[dtype]).tobytes()


def _write_shards(folder: Path, tensors: dict[str, np.ndarray], dtype: str, n_shards: int) -> None:
    if n_shards == 1:
        write_safetensors(folder / "model.safetensors", tensors, dtype=dtype)
        return
    names, listed = list(tensors), {}
    for i in range(n_shards):
        file = f"model-{i + 1:05d}-of-{n_shards:05d}.safetensors"
        part = {name: tensors[name] for name in names[i::n_shards]}
        write_safetensors(folder / file, part, dtype=dtype)
        listed |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": listed}))


def write_tokenizer(folder: Path, family: str, *, n_pieces: int) -> int:
    """tokenizer.json and tokenizer_config.json; returns the number of tokens."""
    data = _sentencepiece(n_pieces) if family == "sentencepiece" else _byte_level(family, n_pieces)
    specials = SPECIALS[family]
    config: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast"}
    if family == "smollm":
        config |= {"bos_token": specials[1], "eos_token": specials[2], "unk_token": specials[0]}
        config["chat_template"] = CHAT_TEMPLATE
    elif family == "llama-bpe":
        config |= {"bos_token": specials[0], "eos_token": specials[1]}
    else:
        config |= {"unk_token": specials[0], "bos_token": specials[1], "eos_token": specials[2]}
        config |= {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "add_eos_token": False}
    (folder / "tokenizer.json").write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return 1 + max(*data["model"]["vocab"].values(), *(entry["id"] for entry in data["added_tokens"]))


def _added(tokens: list[str], first: int) -> list[dict[str, Any]]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return [{"id": first + i, "content": token, **flags} for i, token in enumerate(tokens)]


def _bos_first(bos: str, bos_id: int) -> dict[str, Any]:
    special = {"SpecialToken": {"id": bos, "type_id": 0}}
    text = {"Sequence": {"id": "A", "type_id": 0}}
    return {
        "type": "TemplateProcessing",
        "single": [special, text],
        "pair": [special, text, special, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {bos: {"id": bos, "ids": [bos_id], "tokens": [bos]}},
    }


def _byte_level(family: str, n_pieces: int) -> dict[str, Any]:
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    first, specials_first = (SPECIALS[family], True) if family == "smollm" else ([], False)
    if family == "smollm":
        pre = [{"type": "Digits", "individual_digits": True}, level | {"use_regex": True}]
    else:
        split = {"type": "Split", "pattern": {"Regex": LLAMA3_SPLIT}, "behavior": "Isolated", "invert": False}
        pre = [split, level | {"use_regex": False}]
    alphabet = byte_tokens()
    stand_in = dict(enumerate(alphabet))
    words = [[stand_in[b] for b in word.encode()] for text in TRAINING_TEXT for word in _words(text)]
    merges = _learn_merges(words, n_pieces)
    tokens = [*first, *alphabet, *("".join(pair) for pair in merges)]
    offset = len(tokens)
    added = _added(SPECIALS[family], 0 if specials_first else offset)
    post: dict[str, Any] = level | {"use_regex": True}
    if family == "llama-bpe":
        post = {"type": "Sequence", "processors": [post, _bos_first("<|begin_of_text|>", offset)]}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": pre},
        "post_processor": post,
        "decoder": level | {"add_prefix_space": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": family == "llama-bpe",
            "vocab": {token: i for i, token in enumerate(tokens)},
            "merges": [list(pair) for pair in merges],
        },
    }


def _sentencepiece(n_pieces: int) -> dict[str, Any]:
    """As Transformers makes it of a SentencePiece BPE model: every split of a piece is a merge, ranked by piece."""
    texts = ["\u2581" + text.replace(" ", "\u2581") for text in TRAINING_TEXT]
    learnt = ["".join(pair) for pair in _learn_merges([list(text) for text in texts], n_pieces)]
    tokens = [*SPECIALS["sentencepiece"], *(f"<0x{byte:02X}>" for byte in range(256)), *dict.fromkeys(learnt)]
    tokens += sorted({c for text in texts for c in text})
    known = set(tokens)
    merges = [
        [piece[:i], piece[i:]]
        for piece in dict.fromkeys(learnt)
        for i in range(1, len(piece))
        if piece[:i] in known and piece[i:] in known
    ]
    space = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _added(SPECIALS["sentencepiece"], 0),
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "\u2581"}, space]},
        "pre_tokenizer": None,
        "post_processor": _bos_first("<s>", 1),
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ],
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "<unk>",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": {token: i for i, token in enumerate(tokens)},
            "merges": merges,
        },
    }


def _words(text: str) -> list[str]:
    """Words with their leading space, as byte-level pre-tokenizers cut plain prose."""
    pieces = text.split(" ")
    return [pieces[0], *(" " + piece for piece in pieces[1:])]


def _learn_merges(words: list[list[str]], n_merges: int) -> list[tuple[str, str]]:
    merges: list[tuple[str, str]] = []
    for _ in range(n_merges):
        counts: dict[tuple[str, str], int] = {}
        for word in words:
            for pair in itertools.pairwise(word):
                counts[pair] = counts.get(pair, 0) + 1
        if not counts:
            break
        best = max(counts, key=lambda pair: (counts[pair], pair))
        merges.append(best)
        words = [_merged(word, best) for word in words]
    return merges


def _merged(word: list[str], pair: tuple[str, str]) -> list[str]:
    out: list[str] = []
    for piece in word:
        if out and (out[-1], piece) == pair:
            out[-1] += piece
        else:
            out.append(piece)
    return out
