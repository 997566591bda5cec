"""The bytes of a GGUF header: key-value pairs and tensor entries, read with every length checked first.

Follows the format description of ggml (docs/gguf.md), versions 2 and 3, little-endian. Counts and lengths are compared
with the file's size before anything is read or allocated, so a damaged or hostile file costs a message and not memory.
The gguf package's GGUFReader has no such checks, and takes 1.7 s for a header that is read here in 0.02 s. The meaning
of the values is gguf_file.py's business.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import struct
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from icl_local.exceptions import ModelError
from icl_local.identity import sha256_text

MAGIC = b"GGUF"
VERSIONS = (2, 3)
DEFAULT_ALIGNMENT = 32

# Far above every known model, far below what would cost memory: the largest have some 60 keys, 2,000 tensors and
# a million tokens or merges.
MAX_ENTRIES = 1 << 16
MAX_STRINGS = 1 << 22
MAX_STRING_BYTES = 1 << 24
MAX_DIMENSIONS = 4
KEPT_NUMBERS = 1024  # longer arrays of numbers are counted, not kept

TOKENS_KEY = "tokenizer.ggml.tokens"
# With the same values of these a text becomes the same token ids, special tokens and chat template aside.
VOCABULARY_ARRAYS = (TOKENS_KEY, "tokenizer.ggml.merges", "tokenizer.ggml.scores")
VOCABULARY_VALUES = ("tokenizer.ggml.model", "tokenizer.ggml.pre", "tokenizer.ggml.add_space_prefix")

# number of a type -> its code in struct and its name
_SCALARS = {
    0: ("B", "uint8"), 1: ("b", "int8"), 2: ("H", "uint16"), 3: ("h", "int16"), 4: ("I", "uint32"), 5: ("i", "int32"),
    6: ("f", "float32"), 7: ("?", "bool"), 10: ("Q", "uint64"), 11: ("q", "int64"), 12: ("d", "float64"),
}  # fmt: skip
_STRING, _ARRAY = 8, 9

# Files that people pass by mistake, by their first bytes, and what to do instead.
_LOOKALIKES = {
    (b"version https://git-lfs",): "a Git LFS pointer and not the weights; run `git lfs pull`",
    (b"<!DOCTYPE html", b"<html"): "a web page; download the file itself, or name it hf:owner/repo/file.gguf",
    (b"tjgg", b"fmgg", b"lmgg"): "a file of a format older than GGUF; fetch a newer conversion of the model",
    (b"PK\x03\x04",): "a zip archive or PyTorch checkpoint; convert its folder with `icl convert`",
}


@dataclass(frozen=True)
class LongArray:
    """Stands in metadata for an array that is only counted; ``start`` is its position in the file."""

    type: str
    length: int
    start: int = field(default=0, compare=False)

    def __str__(self) -> str:
        return f"[{self.length} x {self.type}]"


@dataclass(frozen=True)
class TensorEntry:
    """One tensor of the header: ``shape`` as stored (fastest dimension first), ggml type number, offset in bytes."""

    name: str
    shape: tuple[int, ...]
    type: int
    offset: int


class Header:
    """The header of a file, in file order; ``data`` is the mapped file, the tensors' bytes begin at ``data_start``.

    Raises ModelError for counts and lengths that cannot be true, OSError and ValueError for a file that cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            self.data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.size = len(self.data)
        self._at = 0
        self._tokens = array("Q")  # the position of each token's length
        self._arrays: dict[str, str] = {}  # digests of VOCABULARY_ARRAYS
        self.metadata: dict[str, object] = {}
        n_tensors, n_pairs = self._preamble()
        for _ in range(n_pairs):
            key = self._text("a key")
            if key in self.metadata:
                self.fail(f"not a usable GGUF file: key {key!r} is there twice")
            self.metadata[key] = self._value(key)
        self.tensors = [self._tensor() for _ in range(n_tensors)]
        alignment = self.metadata.get("general.alignment", DEFAULT_ALIGNMENT)
        if not isinstance(alignment, int) or alignment <= 0:
            self.fail(f"not a usable GGUF file: general.alignment is {alignment!r}")
        self.data_start = -(-self._at // alignment) * alignment
        self.n_tokens = len(self._tokens)
        self.vocabulary = {key: self.metadata.get(key) for key in VOCABULARY_VALUES} | self._arrays
        self.vocab_sha256 = sha256_text(json.dumps(self.vocabulary, sort_keys=True, default=str))

    def fail(self, message: str) -> NoReturn:
        """Raise ModelError with the file's path before the message."""
        raise ModelError(f"{self.path}: {message}")

    def token(self, index: object) -> str | None:
        """Return the text of token ``index``, None if there is no such token."""
        if not isinstance(index, int) or not 0 <= index < len(self._tokens):
            return None
        self._at = self._tokens[index]
        return self._text("a token")

    def value(self, key: str) -> Any:
        """Return the value of ``key`` with all elements of a long array; None if it is not there."""
        found = self.metadata.get(key)
        if not isinstance(found, LongArray):
            return found
        self._at = found.start
        kind, length = self._numbers("IQ")
        if kind == _STRING:
            return [self._text(key) for _ in range(length)]
        return self._numbers(f"{length}{_SCALARS[kind][0]}")

    def _preamble(self) -> tuple[int, int]:
        """Return the numbers of tensors and of key-value pairs."""
        start = self.data[:32]
        if not start.startswith(MAGIC):
            hint = next((text for beginnings, text in _LOOKALIKES.items() if start.startswith(beginnings)), None)
            if hint is None and start[8:9] == b"{":
                hint = "a safetensors file; convert its folder with `icl convert`"
            self.fail(f"not a GGUF file: {hint or f'it begins with {start[:4]!r}'}")
        version, n_tensors, n_pairs = self._numbers("4xIQQ")
        if version & 0xFFFF == 0:
            self.fail("a big-endian GGUF file; convert the model again on a little-endian machine")
        if version not in VERSIONS:
            self.fail(f"GGUF version {version}, this program reads {VERSIONS[0]} and {VERSIONS[-1]}; convert it again")
        for count, what in ((n_pairs, "keys"), (n_tensors, "tensors")):
            if count > MAX_ENTRIES:
                self.fail(f"not a usable GGUF file: its header claims {count} {what}")
        return n_tensors, n_pairs

    def _skip(self, size: int) -> int:
        """Consume ``size`` bytes and return the position before them."""
        start = self._at
        self._at = start + size
        if self._at > self.size:
            self.fail(
                f"truncated: the header goes on after the file's {self.size} bytes (at least {self._at - self.size} "
                "are missing); download or convert it again"
            )
        return start

    def _numbers(self, codes: str) -> tuple[Any, ...]:
        """Consume numbers whose types are ``codes`` of struct."""
        return struct.unpack_from("<" + codes, self.data, self._skip(struct.calcsize("<" + codes)))

    def _text(self, what: str) -> str:
        (length,) = self._numbers("Q")
        if length > MAX_STRING_BYTES:
            self.fail(f"not a usable GGUF file: {what} claims {length} bytes")
        start = self._skip(length)
        return self.data[start : start + length].decode("utf-8", "replace")

    def _value(self, key: str) -> object:
        (kind,) = self._numbers("I")
        if kind in _SCALARS:
            return self._numbers(_SCALARS[kind][0])[0]
        if kind == _STRING:
            return self._text(f"the value of {key!r}")
        if kind != _ARRAY:
            self.fail(f"not a usable GGUF file: key {key!r} has the unknown type {kind}")
        start = self._at
        value = self._array(key)
        if key in VOCABULARY_ARRAYS:
            self._arrays[key] = hashlib.sha256(self.data[start : self._at]).hexdigest()
        return value

    def _array(self, key: str) -> object:
        start = self._at
        kind, length = self._numbers("IQ")
        if kind in _SCALARS:
            code, name = _SCALARS[kind]
            if length <= KEPT_NUMBERS:
                return self._numbers(f"{length}{code}")
            self._skip(length * struct.calcsize("<" + code))
            return LongArray(name, length, start)
        if kind != _STRING:
            self.fail(f"not a usable GGUF file: array {key!r} has elements of type {kind}")
        if length > MAX_STRINGS:
            self.fail(f"not a usable GGUF file: array {key!r} claims {length} strings")
        starts = self._strings(key, length)
        if key == TOKENS_KEY:
            self._tokens = starts
        return LongArray("string", length, start)

    def _strings(self, key: str, length: int) -> array[int]:
        """Skip ``length`` strings and return their positions."""
        # One plain loop over local names: it runs for every token and every merge, 400,000 times for Llama 3.
        unpack, data, at, last = struct.Struct("<Q").unpack_from, self.data, self._at, self.size - 8
        starts = array("Q")
        for _ in range(length):
            if at > last:
                break
            (size,) = unpack(data, at)
            if size > MAX_STRING_BYTES:
                self.fail(f"not a usable GGUF file: a string of {key!r} claims {size} bytes")
            starts.append(at)
            at += 8 + size
        self._skip(at - self._at + 8 * (length - len(starts)))
        return starts

    def _tensor(self) -> TensorEntry:
        name = self._text("a tensor's name")
        (n_dimensions,) = self._numbers("I")
        if not 1 <= n_dimensions <= MAX_DIMENSIONS:
            self.fail(f"not a usable GGUF file: tensor {name!r} has {n_dimensions} dimensions")
        return TensorEntry(name, self._numbers(f"{n_dimensions}Q"), *self._numbers("IQ"))
