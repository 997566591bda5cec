"""Random checkpoints of the architectures that a user brings, of a few thousand weights, with trained tokenizers."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.tiny_checkpoint import CHAT_TEMPLATE, LLAMA3_ROPE, TRAINING_TEXT

SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
}
_GEMMA = {"head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": 64}
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)


@dataclass(frozen=True)
class Architecture:
    """Transformers' model type, the kind of tokenizer and what differs from SHAPE."""

    model_type: str
    tokenizer: str
    config: dict[str, Any] = field(default_factory=dict)


ARCHITECTURES = {
    "llama3-tied": Architecture("llama", "llama3", {"tie_word_embeddings": True, "rope_parameters": LLAMA3_ROPE}),
    "llama3-untied": Architecture("llama", "llama3", {"rope_parameters": LLAMA3_ROPE}),
    "eurollm": Architecture("llama", "sentencepiece"),
    "smollm2": Architecture("llama", "smollm", {"tie_word_embeddings": True}),
    "smollm3": Architecture("smollm3", "llama3", {"num_hidden_layers": 4, "tie_word_embeddings": True}),
    "qwen2": Architecture("qwen2", "qwen2", {"tie_word_embeddings": True}),
    "qwen3": Architecture("qwen3", "qwen2", {"head_dim": 32}),
    "gemma2": Architecture("gemma2", "gemma", _GEMMA),
    "gemma3": Architecture("gemma3_text", "gemma", {**_GEMMA, "num_hidden_layers": 6}),
    "mistral": Architecture("mistral", "sentencepiece", {"sliding_window": None}),
    "phi3": Architecture("phi3", "phi", {"sliding_window": 2047, "original_max_position_embeddings": 4096}),
    "olmo2": Architecture("olmo2", "gpt4"),
    "gpt-neox": Architecture("gpt_neox", "gpt2", {"rotary_pct": 0.25}),
}


def build_architecture(folder: Path, name: str, *, dtype: str = "float32", seed: int = 0) -> Path:
    """Write the checkpoint of ARCHITECTURES[name]; weights are normal with a fixed seed."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    made = ARCHITECTURES[name]
    folder.mkdir(parents=True, exist_ok=True)
    write_tokenizer = _sentencepiece if made.tokenizer in _ENDS else _byte_level
    n_tokens = write_tokenizer(folder, made.tokenizer)
    tokens = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    config = AutoConfig.for_model(made.model_type, vocab_size=n_tokens + 3, **{**tokens, **SHAPE, **made.config})
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    one = 0.0 if made.model_type.startswith("gemma") else 1.0
    with torch.no_grad():
        for weight_name, weight in model.named_parameters():
            weight.normal_(one if "norm" in weight_name and "weight" in weight_name else 0.0, 0.2)
    model.to(getattr(torch, dtype)).save_pretrained(folder)
    return folder


_SPECIALS = {
    "llama3": ["<|begin_of_text|>", "<|end_of_text|>"],
    "smollm": ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
    "qwen2": ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
    "gpt4": ["<|endoftext|>"],
    "gpt2": ["<|endoftext|>", "<|padding|>"],
}
_ENDS = {"sentencepiece": ("<s>", "</s>"), "phi": ("<s>", "</s>"), "gemma": ("<bos>", "<eos>")}


def _byte_level(folder: Path, kind: str) -> int:
    from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

    bare = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    words = pre_tokenizers.ByteLevel(add_prefix_space=False)
    digits = "" if kind == "qwen2" else "{1,3}"
    split = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(_WORDS % digits), "isolated"), bare])
    smollm = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), words])
    tokenizer = Tokenizer(models.BPE(ignore_merges=kind == "llama3"))
    tokenizer.normalizer = normalizers.NFC() if kind in ("qwen2", "gpt2") else None
    tokenizer.pre_tokenizer = {"gpt2": words, "smollm": smollm}.get(kind, split)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(TRAINING_TEXT * 3, trainer)
    specials = _SPECIALS[kind]
    tokenizer.add_special_tokens([AddedToken(text, normalized=False) for text in specials])
    settings = {"eos_token": specials[-1] if kind != "gpt2" else specials[0]}
    if kind == "llama3":
        bos = specials[0]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A {bos} $B:1", special_tokens=[(bos, tokenizer.token_to_id(bos))]
        )
        settings["bos_token"] = bos
    else:
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    if kind in ("smollm", "qwen2"):
        settings["chat_template"] = CHAT_TEMPLATE
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **settings}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return int(tokenizer.get_vocab_size())


def _sentencepiece(folder: Path, kind: str) -> int:
    """Write tokenizer.model as SentencePiece trains it, and tokenizer.json as Transformers makes it of the former."""
    import sentencepiece
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    bos, eos = _ENDS[kind]
    trained = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TRAINING_TEXT * 3),
        model_writer=trained,
        model_type="bpe",
        vocab_size=480,
        byte_fallback=True,
        character_coverage=1.0,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        split_digits=True,
        add_dummy_prefix=kind != "gemma",
        bos_piece=bos,
        eos_piece=eos,
        minloglevel=2,
    )
    (folder / "tokenizer.model").write_bytes(trained.getvalue())
    pieces = sentencepiece.SentencePieceProcessor(model_proto=trained.getvalue())
    vocab = {pieces.IdToPiece(i): i for i in range(pieces.GetPieceSize())}
    normal = [i for i in range(3, len(vocab)) if not pieces.IsByte(i)]
    merges = [
        (text[:cut], text[cut:])
        for text in sorted((pieces.IdToPiece(i) for i in normal), key=lambda text: -pieces.GetScore(vocab[text]))
        for cut in range(1, len(text))
        if text[:cut] in vocab and text[cut:] in vocab
    ]
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    space = normalizers.Replace(" ", "\u2581")
    if kind == "gemma":
        tokenizer.normalizer, tokenizer.pre_tokenizer = space, pre_tokenizers.Split(" ", "merged_with_previous")
    else:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), space])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A {bos} $B:1", special_tokens=[(bos, 1)]
    )
    specials = ["<unk>", bos, eos, *(["<|endoftext|>", "<|user|>"] if kind == "phi" else [])]
    tokenizer.add_special_tokens([AddedToken(text, normalized=False) for text in specials])
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": bos, "eos_token": eos, "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"clean_up_tokenization_spaces": False}))
    return int(tokenizer.get_vocab_size())
