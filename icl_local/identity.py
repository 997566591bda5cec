"""Deterministic keys of rows, from what determines a row, not from when or where it was made.

A key is the first 32 hex digits of a SHA-256 over canonical JSON (sorted keys, no spaces, UTF-8). Lone
surrogates are hashed as their escape, so every Python string has a key.
"""

import hashlib
import json
from pathlib import Path


def key_of(**parts: object) -> str:
    """Return 32 hex digits over the named parts; the order of the names does not matter."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:32]


def draw(*parts: object) -> float:
    """Return a number in [0, 1) that the parts alone decide: the first 53 bits of BLAKE2b over their canonical JSON.

    Other parts give a number that is independent of it, uniform on the 2**53 equal steps.
    """
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return (int.from_bytes(hashlib.blake2b(text.encode("ascii"), digest_size=8).digest()) >> 11) / 2**53


def sha256_text(text: str) -> str:
    """Return 64 hex digits over the UTF-8 of ``text`` (lone surrogates kept as their three bytes)."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def sha256_file(*paths: Path) -> str:
    """Return 64 hex digits over the bytes of a file, or of several one after the other, read in pieces."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            hashlib.file_digest(file, lambda: digest)  # goes on with this digest
    return digest.hexdigest()


def cell_key(*, weights: str, recipe: str, dataset: str, language: str, settings_id: str) -> str:
    """Return the cell_id for what the responses of a cell have in common; there a query has one response a draw.

    ``weights``: the GGUF file's sha256, or server and model, or file and model of imported texts. ``recipe``: method
    with its prompt text. db/queries/cells_of_responses.sql builds the same key in SQL.
    """
    return sha256_text("\x1f".join(("cell", weights, recipe, dataset, language, settings_id)))[:32]


def judgment_key(*, response_id: str, judge_id: str, template_sha256: str, repeat: int) -> str:
    """Return the judgment_id for response, judge and template; ``repeat`` counts from 0."""
    return key_of(kind="judgment", response=response_id, judge=judge_id, template=template_sha256, repeat=repeat)
