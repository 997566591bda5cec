"""Pre-tokenizers of byte-level BPE: llama.cpp's names and what they are in a tokenizer.json.

llama.cpp's converter knows the tokenizers of published models by a hash over their token ids. A tokenizer with a
vocabulary of its own has another hash; its structure says which of llama.cpp's pre-tokenizers it needs.
"""

from collections.abc import Mapping
from typing import Any

from icl_local.exceptions import ConversionError

_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)


def _byte_level(*, use_regex: bool) -> dict[str, Any]:
    return {"type": "ByteLevel", "add_prefix_space": False, "use_regex": use_regex}


def _split(digits: str) -> list[dict[str, Any]]:
    split = {"type": "Split", "pattern": {"Regex": _WORDS % digits}, "behavior": "Isolated", "invert": False}
    return [split, _byte_level(use_regex=False)]


# llama.cpp's name -> the steps of the pre-tokenizer, and whether whole words in the vocabulary skip the merges
PRE_TOKENIZERS: dict[str, tuple[list[dict[str, Any]], bool]] = {
    "gpt-2": ([_byte_level(use_regex=True)], False),
    "smollm": ([{"type": "Digits", "individual_digits": True}, _byte_level(use_regex=True)], False),
    "qwen2": (_split(""), False),
    "dbrx": (_split("{1,3}"), False),
    "llama-bpe": (_split("{1,3}"), True),
}


def name_of(tokenizer: Mapping[str, Any]) -> str:
    """Return llama.cpp's name of the pre-tokenizer in the contents of a tokenizer.json.

    NFC is taken as no normalizer, as llama.cpp does not normalise. Raises ConversionError for any other structure.
    """
    normalizer, found = tokenizer.get("normalizer"), tokenizer.get("pre_tokenizer") or {}
    steps = found.get("pretokenizers", [found])
    # trim_offsets moves offsets, not tokens
    steps = [{key: value for key, value in step.items() if key != "trim_offsets"} for step in steps]
    if normalizer in (None, {"type": "NFC"}):
        for name, known in PRE_TOKENIZERS.items():
            if known == (steps, bool(tokenizer.get("model", {}).get("ignore_merges"))):
                return name
    kinds = [str(step["type"]) for step in [normalizer or {}, *steps] if "type" in step]
    raise ConversionError(
        f"its tokenizer ({', '.join(kinds) or 'no tokenizer.json'}) is not one that llama.cpp is known to have; "
        "convert the model that it was trained from, or update llama-cpp-python"
    )
