"""Copies of a GGUF file with some bytes of the header changed."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import gguf

Edit = Callable[..., Path]  # the ``edit`` fixture: (position, new bytes) ... -> the changed copy


def value_at(data: bytes, key: str) -> int:
    """Where the value of ``key`` begins: after its name and its four bytes of type."""
    name = struct.pack("<Q", len(key)) + key.encode()
    return data.index(name) + len(name) + 4


def header_bytes(path: Path) -> int:
    """Length of the header, which ends with the last tensor's entry."""
    data = path.read_bytes()
    return tensor_entry(data, gguf.GGUFReader(path).tensors[-1].name) + 4 + 2 * 8 + 4 + 8


def tensor_entry(data: bytes, name: str) -> int:
    """Position of a matrix's entry: dimensions (4 bytes), two lengths (8 each), type (4), offset (8)."""
    return data.index(name.encode()) + len(name)


def rename(data: bytes, old: str, new: str) -> tuple[int, bytes]:
    """A change of name of the same length, so that nothing else moves."""
    assert len(old) == len(new)
    return data.index(struct.pack("<Q", len(old)) + old.encode()) + 8, new.encode()


def mutants(path: Path, folder: Path, *, count: int, seed: int) -> Iterator[Path]:
    """Copies with one to four header bytes changed, or cut, or with a 64-bit number written over the header."""
    rng = random.Random(seed)
    data, end = path.read_bytes(), header_bytes(path)
    for index in range(count):
        mutant = bytearray(data)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(4, end)
            if rng.random() < 0.2:
                mutant[at : at + 8] = rng.choice([0, 1, 255, 1 << 31, 1 << 63, (1 << 64) - 1]).to_bytes(8, "little")
            else:
                mutant[at] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, mutant[at] ^ (1 << rng.randrange(8))])
        if rng.random() < 0.1:
            del mutant[rng.randrange(4, len(mutant)) :]
        target = folder / f"{index}.gguf"
        target.write_bytes(mutant)
        yield target
