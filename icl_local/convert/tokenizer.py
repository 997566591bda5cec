"""Convert between tokenizer.json and the vocabulary of a GGUF file, for the two families of Llama tokenizers.

Byte-level BPE (Llama 3, SmolLM2, GPT-2) becomes model ``gpt2`` with a pre-tokenizer llama.cpp knows by name;
SentencePiece BPE with byte fallback (EuroLLM, Llama 2) becomes model ``llama``, whose merges are ranked by scores.
The structure of tokenizer.json decides; a structure that is not listed here is refused, never guessed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icl_local.convert.checkpoint import read_json
from icl_local.exceptions import ConversionError

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6  # llama.cpp's token types
_SPACE = "\u2581"  # SentencePiece's visible space
_BYTE_PIECE = re.compile(r"<0x[0-9A-F]{2}>")
_LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)


def _byte_level(*, use_regex: bool) -> dict[str, Any]:
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": use_regex}


_SPLIT = {"type": "Split", "pattern": {"Regex": _LLAMA3_SPLIT}, "behavior": "Isolated", "invert": False}
# llama.cpp's name -> the pre_tokenizer it implements and whether whole words in the vocabulary skip the merges
_PRE_TOKENIZERS: dict[str, tuple[dict[str, Any], bool]] = {
    "llama-bpe": ({"type": "Sequence", "pretokenizers": [_SPLIT, _byte_level(use_regex=False)]}, True),
    "smollm": (
        {
            "type": "Sequence",
            "pretokenizers": [{"type": "Digits", "individual_digits": True}, _byte_level(use_regex=True)],
        },
        False,
    ),
    "gpt-2": (_byte_level(use_regex=True), False),
}


@dataclass(frozen=True)
class Vocabulary:
    """The tokenizer of a GGUF file; ``scores`` for model llama, ``merges`` for model gpt2."""

    model: str
    pre: str
    tokens: tuple[str, ...]
    types: tuple[int, ...]
    scores: tuple[float, ...] | None
    merges: tuple[str, ...] | None
    bos_id: int | None
    eos_id: int | None
    unk_id: int | None
    pad_id: int | None
    add_bos: bool
    add_eos: bool
    add_space_prefix: bool
    chat_template: str | None

    def fields(self) -> dict[str, Any]:
        """Return the tokenizer keys of a GGUF file and their values; None if the key must be absent."""
        return {
            "tokenizer.ggml.model": self.model,
            "tokenizer.ggml.pre": self.pre,
            "tokenizer.ggml.tokens": list(self.tokens),
            "tokenizer.ggml.token_type": list(self.types),
            "tokenizer.ggml.scores": None if self.scores is None else list(self.scores),
            "tokenizer.ggml.merges": None if self.merges is None else list(self.merges),
            "tokenizer.ggml.bos_token_id": self.bos_id,
            "tokenizer.ggml.eos_token_id": self.eos_id,
            "tokenizer.ggml.unknown_token_id": self.unk_id,
            "tokenizer.ggml.padding_token_id": self.pad_id,
            "tokenizer.ggml.add_bos_token": self.add_bos,
            "tokenizer.ggml.add_eos_token": self.add_eos,
            "tokenizer.ggml.add_space_prefix": self.add_space_prefix,
            "tokenizer.chat_template": self.chat_template,
        }


def load_vocabulary(folder: Path, *, n_rows: int) -> Vocabulary:
    """Read the vocabulary of the checkpoint in ``folder``, filled up to the embedding's ``n_rows`` with unused tokens.

    Raises ConversionError with the first feature of tokenizer.json that llama.cpp does not have.
    """
    if not (folder / "tokenizer.json").is_file():
        raise ConversionError(
            f"{folder} has no tokenizer.json; save one with transformers' AutoTokenizer(...).save_pretrained"
        )
    data = read_json(folder / "tokenizer.json")
    config = read_json(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").is_file() else {}
    model = data.get("model") or {}
    if model.get("type") != "BPE":
        raise ConversionError(f"{folder.name}: tokenizer model {model.get('type')!r} cannot be converted; only BPE can")
    for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(key):
            raise ConversionError(f"{folder.name}: {key} = {model[key]!r} in tokenizer.json cannot be converted")
    merges = [tuple(pair.split(" ", 1)) if isinstance(pair, str) else tuple(pair) for pair in model.get("merges", [])]
    sentencepiece = bool(model.get("byte_fallback"))
    if sentencepiece:
        pre, space_prefix = "default", _space_prefix(data, name=folder.name)
    else:
        pre, space_prefix = _pre_tokenizer(data, name=folder.name), False
    tokens, types = _tokens(data, n_rows=n_rows, sentencepiece=sentencepiece, name=folder.name)
    ids = {token: i for i, token in reversed(list(enumerate(tokens)))}
    bos, eos = _special(config, "bos_token", ids), _special(config, "eos_token", ids)
    unk = _special(config, "unk_token", ids) if config.get("unk_token") else ids.get(model.get("unk_token") or "")
    if sentencepiece and unk is not None:
        types[unk] = UNKNOWN
    add_bos, add_eos = _added(data, config, bos=bos, eos=eos, name=folder.name)
    return Vocabulary(
        model="llama" if sentencepiece else "gpt2",
        pre=pre,
        tokens=tuple(tokens),
        types=tuple(types),
        scores=tuple(_scores(tokens, merges)) if sentencepiece else None,
        merges=None if sentencepiece else tuple(" ".join(part.replace(" ", "\u0120") for part in m) for m in merges),
        bos_id=bos,
        eos_id=eos,
        unk_id=unk,
        pad_id=_special(config, "pad_token", ids),
        add_bos=add_bos,
        add_eos=add_eos,
        add_space_prefix=space_prefix,
        chat_template=chat_template(folder, config),
    )


def chat_template(folder: Path, config: Mapping[str, Any]) -> str | None:
    """Return the chat template: chat_template.jinja, else tokenizer_config.json's (default) one, as Transformers."""
    if (folder / "chat_template.jinja").is_file():
        return (folder / "chat_template.jinja").read_text(encoding="utf-8")
    found = config.get("chat_template")
    if isinstance(found, list):
        found = {entry.get("name"): entry.get("template") for entry in found}.get("default")
    return found or None


def to_tokenizer_json(metadata: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return (tokenizer.json, tokenizer_config.json) of a byte-level GGUF vocabulary.

    ``metadata``: the file's keys and values. Raises ConversionError for a vocabulary that is not byte-level BPE with
    one of the known pre-tokenizers (scores do not determine the merges of a SentencePiece vocabulary).
    """
    pre = metadata.get("tokenizer.ggml.pre")
    if metadata.get("tokenizer.ggml.model") != "gpt2" or pre not in _PRE_TOKENIZERS:
        raise ConversionError(
            f"a GGUF tokenizer of model {metadata.get('tokenizer.ggml.model')!r}, pre-tokenizer {pre!r} cannot be "
            "turned back into tokenizer.json; train from the Hugging Face checkpoint instead"
        )
    tokens: Sequence[str] = metadata["tokenizer.ggml.tokens"]
    types: Sequence[int] = metadata["tokenizer.ggml.token_type"]
    structure, ignore_merges = _PRE_TOKENIZERS[str(pre)]
    added = [
        {"id": i, "content": token, "single_word": False, "lstrip": False, "rstrip": False}
        | {"normalized": types[i] == USER_DEFINED, "special": types[i] == CONTROL}
        for i, token in enumerate(tokens)
        if types[i] in (CONTROL, USER_DEFINED)
    ]
    decoder = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    config: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    for key, name in (("bos", "bos_token"), ("eos", "eos_token"), ("unknown", "unk_token"), ("padding", "pad_token")):
        token_id = metadata.get(f"tokenizer.ggml.{key}_token_id")
        if token_id is not None:
            config[name] = tokens[int(token_id)]
    post_processor: dict[str, Any] = decoder
    if metadata.get("tokenizer.ggml.add_bos_token", pre == "llama-bpe") and "bos_token" in config:
        post_processor = _bos_template(config["bos_token"], int(metadata["tokenizer.ggml.bos_token_id"]))
    if metadata.get("tokenizer.chat_template"):
        config["chat_template"] = metadata["tokenizer.chat_template"]
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": ignore_merges,
        "vocab": {token: i for i, token in enumerate(tokens) if types[i] != UNUSED},
        "merges": [merge.split(" ", 1) for merge in metadata["tokenizer.ggml.merges"]],
    }
    data = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": structure,
        "post_processor": post_processor,
        "decoder": decoder,
        "model": model,
    }
    return data, config


def _bos_template(bos: str, bos_id: int) -> dict[str, Any]:
    single, second = (
        [{"SpecialToken": {"id": bos, "type_id": i}}, {"Sequence": {"id": text, "type_id": i}}]
        for i, text in enumerate("AB")
    )
    return {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [*single, *second],
        "special_tokens": {bos: {"id": bos, "ids": [bos_id], "tokens": [bos]}},
    }


def _pre_tokenizer(data: Mapping[str, Any], *, name: str) -> str:
    if data.get("normalizer"):
        raise ConversionError(f"{name}: normalizer {_short(data['normalizer'])} of a byte-level tokenizer is not known")
    found = data.get("pre_tokenizer"), bool(data["model"].get("ignore_merges"))
    for pre, known in _PRE_TOKENIZERS.items():
        if found == known:
            return pre
    raise ConversionError(
        f"{name}: pre-tokenizer {_short(found[0])} with ignore_merges {found[1]} is none of "
        f"{', '.join(_PRE_TOKENIZERS)} and cannot be converted"
    )


def _space_prefix(data: Mapping[str, Any], *, name: str) -> bool:
    """Return whether a space goes before the text; raises ConversionError for other treatments of spaces."""
    normalizer, pre = data.get("normalizer"), data.get("pre_tokenizer")
    prepend = {"type": "Prepend", "prepend": _SPACE}
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}
    if pre is None and normalizer == {"type": "Sequence", "normalizers": [prepend, replace]}:
        return True
    if pre is None and normalizer in (replace, {"type": "Sequence", "normalizers": [replace]}):
        return False
    if normalizer is None and isinstance(pre, dict) and pre.get("type") == "Metaspace":
        scheme = pre.get("prepend_scheme", "always")
        if pre.get("replacement") == _SPACE and not pre.get("split", True) and scheme in ("first", "always", "never"):
            return bool(scheme != "never")
    raise ConversionError(
        f"{name}: normalizer {_short(normalizer)} with pre-tokenizer {_short(pre)} is not a known SentencePiece "
        "arrangement and cannot be converted"
    )


def _tokens(data: Mapping[str, Any], *, n_rows: int, sentencepiece: bool, name: str) -> tuple[list[str], list[int]]:
    by_id = {int(i): token for token, i in data["model"]["vocab"].items()}
    added = {int(entry["id"]): entry for entry in data.get("added_tokens") or []}
    by_id.update({i: str(entry["content"]) for i, entry in added.items()})
    if by_id and max(by_id) >= n_rows:
        raise ConversionError(
            f"{name}: the tokenizer has a token {max(by_id)} ({by_id[max(by_id)]!r}), the embedding only {n_rows} rows"
        )
    tokens, types = [], []
    for i in range(n_rows):
        if i not in by_id:
            tokens.append(f"[PAD{i}]")
            types.append(UNUSED)
            continue
        token = by_id[i]
        if i in added:
            kind = CONTROL if added[i].get("special") else USER_DEFINED
        else:
            kind = BYTE if sentencepiece and _BYTE_PIECE.fullmatch(token) else NORMAL
        # llama.cpp looks for user-defined tokens in the raw text, before spaces become visible.
        tokens.append(token.replace(_SPACE, " ") if sentencepiece and kind == USER_DEFINED else token)
        types.append(kind)
    return tokens, types


def _scores(tokens: Sequence[str], merges: Sequence[tuple[str, ...]]) -> list[float]:
    """Return scores: llama.cpp joins the pair whose result has the highest, minus the rank of its first merge."""
    rank: dict[str, int] = {}
    for i, pair in enumerate(merges):
        rank.setdefault("".join(pair), i)
    return [-float(rank.get(token, len(merges))) for token in tokens]


def _special(config: Mapping[str, Any], key: str, ids: Mapping[str, int]) -> int | None:
    entry = config.get(key)
    content = entry.get("content") if isinstance(entry, dict) else entry
    if content is None:
        return None
    if content not in ids:
        raise ConversionError(f"tokenizer_config.json: {key} {content!r} is not in the vocabulary")
    return ids[content]


def _added(
    data: Mapping[str, Any], config: Mapping[str, Any], *, bos: int | None, eos: int | None, name: str
) -> tuple[bool, bool]:
    """Return whether BOS goes before and EOS after a text; tokenizer_config.json's flags win, as in Transformers."""
    found = {"bos": False, "eos": False}
    processor = data.get("post_processor") or {}
    steps = processor.get("processors", [processor]) if processor.get("type") == "Sequence" else [processor]
    for step in steps:
        if step.get("type") in (None, "ByteLevel"):
            continue
        if step.get("type") != "TemplateProcessing":
            raise ConversionError(f"{name}: post-processor {step.get('type')!r} cannot be converted")
        ids = [
            step["special_tokens"][part["SpecialToken"]["id"]]["ids"] if "SpecialToken" in part else "text"
            for part in step["single"]
        ]
        at = ids.index("text")
        before, after = ids[:at], ids[at + 1 :]
        if before not in ([], [[bos]]) or after not in ([], [[eos]]):
            raise ConversionError(f"{name}: post-processor {_short(step['single'])} adds more than BOS and EOS")
        found = {"bos": bool(before), "eos": bool(after)}
    for key in found:
        if isinstance(config.get(f"add_{key}_token"), bool):
            found[key] = config[f"add_{key}_token"]
    return found["bos"] and bos is not None, found["eos"] and eos is not None


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 120 else text[:117] + "..."
