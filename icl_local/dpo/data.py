"""Preference pairs for DPO: reading them, and turning them into tokens the way TRL 0.13 to 0.15 did.

A pair is a prompt with a chosen and a rejected answer, as text or as chat messages. Published sets come from the
hub, others from a JSON Lines or Parquet file with columns chosen, rejected and (optionally) prompt.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icl_local.exceptions import HubError, InputError, MissingExtra, TrainingError

# The published sets and the split that TRL's script trains on. Both have a few pairs with the same answer twice,
# which have no gradient and were left in.
HUB_SPLITS = {"trl-lib/ultrafeedback_binarized": "train", "HuggingFaceH4/ultrafeedback_binarized": "train_prefs"}
# What TRL's script of that time gave to a base model without a chat template.
SIMPLE_CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'].capitalize() + ': ' + message['content'] + '\n\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
IDENTICAL = ("error", "keep", "drop")

Side = str | list[dict[str, str]]


@dataclass(frozen=True)
class Pair:
    """One preference; the three are all texts, or all lists of messages with role and content."""

    prompt: Side
    chosen: Side
    rejected: Side


@dataclass(frozen=True)
class Preferences:
    """A set of pairs; ``sha256`` is over the pairs in order, whatever file they came in."""

    name: str
    sha256: str
    pairs: tuple[Pair, ...]


def load_preferences(
    source: str, *, split: str | None = None, limit: int | None = None, identical: str | None = None
) -> Preferences:
    """The pairs of a hub data set, a .jsonl or a .parquet file; at most ``limit`` of them, from the start.

    ``identical``: what to do with pairs whose two answers are the same: error, keep or drop (default: keep for the
    published sets, error for others). Raises InputError naming file and row, HubError, MissingExtra.
    """
    path = Path(source)
    if path.suffix.lower() in (".jsonl", ".json", ".parquet"):
        rows = _file_rows(path)
        name = path.name
    else:
        rows, name = _hub_rows(source, split or HUB_SPLITS.get(source, "train")), source
    mode = identical or ("keep" if source in HUB_SPLITS else "error")
    pairs: list[Pair] = []
    for where, row in rows:
        if limit is not None and len(pairs) >= limit:
            break
        pair = _pair(row, where=where)
        if pair.chosen == pair.rejected:
            if mode == "error":
                raise InputError(f"{where}: chosen and rejected are the same; fix it, or pass --identical drop")
            if mode == "drop":
                continue
        pairs.append(pair)
    if not pairs:
        raise InputError(f"{name} holds no preference pairs")
    digest = hashlib.sha256()
    for pair in pairs:
        text = json.dumps([pair.prompt, pair.chosen, pair.rejected], sort_keys=True, ensure_ascii=True)
        digest.update(text.encode() + b"\n")
    return Preferences(name, digest.hexdigest(), tuple(pairs))


def paper_tokens(pair: Pair, tokenizer: Any, *, max_prompt_length: int | None) -> dict[str, list[int]]:
    """prompt_ids, chosen_ids, rejected_ids as TRL 0.13 to 0.15 made them.

    Prompt and answers are rendered by the chat template (SIMPLE_CHAT_TEMPLATE without one) and tokenised apart; no
    BOS beyond what a template writes; EOS ends each answer; a long prompt keeps its end. Raises TrainingError.
    """
    prompt, chosen, rejected = _texts(pair, tokenizer)
    ids = {
        key: list(tokenizer(text, add_special_tokens=False)["input_ids"])
        for key, text in (("prompt_ids", prompt), ("chosen_ids", chosen), ("rejected_ids", rejected))
    }
    ids["chosen_ids"].append(tokenizer.eos_token_id)
    ids["rejected_ids"].append(tokenizer.eos_token_id)
    if max_prompt_length is not None:
        ids["prompt_ids"] = ids["prompt_ids"][-max_prompt_length:]
    return ids


def token_dataset(rows: Iterable[Mapping[str, list[int]]], *, n_chunk: int = 1000) -> Any:
    """A datasets.Dataset of token lists, packed chunk by chunk so that Python's lists never hold the whole set."""
    import pyarrow as pa
    from datasets import Dataset

    tables = [
        pa.table({key: pa.array([row[key] for row in chunk], pa.list_(pa.int32())) for key in chunk[0]})
        for chunk in _chunks(rows, n_chunk)
    ]
    return Dataset(pa.concat_tables(tables))


@dataclass(frozen=True)
class PaperCollator:
    """Batches [2 * n_pairs, n_tokens], chosen first, padded on the right.

    TRL of that time cut the padded batch and not each row: with keep_end, a row shorter than the longest loses
    tokens at its start as well. ``cut_rows`` cuts each row for itself instead, which reference log-probabilities
    computed beforehand need, since they know nothing of a row's neighbours.
    """

    pad_token_id: int
    max_length: int | None
    truncation: str
    cut_rows: bool

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        import torch

        sequences = [
            ([*row["prompt_ids"], *row[key]], [0] * len(row["prompt_ids"]) + [1] * len(row[key]))
            for key in ("chosen_ids", "rejected_ids")
            for row in rows
        ]
        cut = slice(None)
        if self.max_length is not None:
            cut = slice(-self.max_length, None) if self.truncation == "keep_end" else slice(None, self.max_length)
        if self.cut_rows:
            sequences = [(ids[cut], mask[cut]) for ids, mask in sequences]
        longest = max(len(ids) for ids, _ in sequences)
        batch = {
            "input_ids": [ids + [self.pad_token_id] * (longest - len(ids)) for ids, _ in sequences],
            "attention_mask": [[1] * len(ids) + [0] * (longest - len(ids)) for ids, _ in sequences],
            "completion_mask": [mask + [0] * (longest - len(mask)) for _, mask in sequences],
        }
        tensors = {key: torch.tensor([row[cut] for row in value]) for key, value in batch.items()}
        for key in ("ref_chosen_logps", "ref_rejected_logps"):
            if key in rows[0]:
                tensors[key] = torch.tensor([row[key] for row in rows])
        return tensors


def is_conversational(pair: Pair) -> bool:
    """Whether the pair is made of messages."""
    return not isinstance(pair.chosen, str)


def _texts(pair: Pair, tokenizer: Any) -> tuple[str, str, str]:
    if isinstance(pair.prompt, str) or isinstance(pair.chosen, str) or isinstance(pair.rejected, str):
        return str(pair.prompt), str(pair.chosen), str(pair.rejected)
    template = tokenizer.chat_template or SIMPLE_CHAT_TEMPLATE

    def render(messages: list[dict[str, str]], *, prompt: bool = False) -> str:
        return str(
            tokenizer.apply_chat_template(
                messages, chat_template=template, tokenize=False, add_generation_prompt=prompt
            )
        )

    prompt = render(pair.prompt, prompt=True)
    both = [render(pair.prompt + answer) for answer in (pair.chosen, pair.rejected)]
    if not all(text.startswith(prompt) for text in both):
        raise TrainingError(
            "the chat template renders a conversation differently once it has its answer; "
            "give the pairs as texts (prompt, chosen, rejected) instead"
        )
    return prompt, both[0][len(prompt) :], both[1][len(prompt) :]


def _pair(row: Mapping[str, Any], *, where: str) -> Pair:
    for key in ("chosen", "rejected"):
        if row.get(key) is None:
            raise InputError(f"{where}: no column {key!r}; there are: {', '.join(sorted(row)) or 'none'}")
    chosen, rejected, prompt = _side(row["chosen"], where), _side(row["rejected"], where), row.get("prompt")
    if isinstance(chosen, str) != isinstance(rejected, str):
        raise InputError(f"{where}: chosen and rejected must both be texts or both be messages")
    # A text beside conversations repeats their first message; TRL's script needed that column dropped.
    prompt = None if isinstance(prompt, str) and not isinstance(chosen, str) else prompt
    if prompt is not None:
        side = _side(prompt, where)
        if isinstance(side, str) != isinstance(chosen, str):
            raise InputError(f"{where}: prompt and chosen must both be texts or both be messages")
        return Pair(side, chosen, rejected)
    shared = 0
    for a, b in zip(chosen[:-1], rejected[:-1], strict=False):
        if a != b:
            break
        shared += 1
    if shared and isinstance(chosen, str) and chosen[shared - 1] == " ":
        shared -= 1  # the space before a word belongs to it
    if not shared and not isinstance(chosen, str):
        raise InputError(f"{where}: no prompt, and the two conversations do not begin with the same message")
    return Pair(chosen[:shared], chosen[shared:], rejected[shared:])


def _side(value: Any, where: str) -> Side:
    if isinstance(value, str):
        return value
    messages = list(value) if isinstance(value, list | tuple) else []
    if not messages or not all(
        isinstance(m, Mapping) and isinstance(m.get("role"), str) and isinstance(m.get("content"), str)
        for m in messages
    ):
        raise InputError(f"{where}: expected a text or a list of messages with role and content")
    return [{"role": m["role"], "content": m["content"]} for m in messages]


def _file_rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if not path.is_file():
        raise InputError(f"{path} does not exist; name a .jsonl or .parquet file, or a data set of the hub")
    return _parquet_rows(path) if path.suffix.lower() == ".parquet" else _json_rows(path)


def _json_rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(_lines(file, path), start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise InputError(f"{path.name} line {number} is no JSON: {error}") from error
            if not isinstance(row, dict):
                raise InputError(f"{path.name} line {number} is no JSON object (one pair a line is expected)")
            yield f"{path.name} line {number}", row


def _lines(file: Iterable[str], path: Path) -> Iterator[str]:
    try:
        yield from file
    except UnicodeDecodeError as error:
        raise InputError(f"{path.name} is not UTF-8: {error}") from error


def _parquet_rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        import pyarrow.parquet
    except ImportError:
        raise MissingExtra("dpo", "pyarrow") from None
    try:
        number = 0
        for batch in pyarrow.parquet.ParquetFile(path).iter_batches(batch_size=1000):
            for row in batch.to_pylist():
                number += 1
                yield f"{path.name} row {number}", row
    except (OSError, pyarrow.ArrowException) as error:
        raise InputError(f"{path.name} cannot be read as Parquet: {error}") from error


def _hub_rows(name: str, split: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        from datasets import load_dataset
    except ImportError:
        raise MissingExtra("dpo", "datasets") from None
    try:
        data = load_dataset(name, split=split)
    except Exception as error:  # datasets raises many kinds, and all of them mean the same here
        raise HubError(f"data set {name} (split {split}) cannot be loaded: {error}") from error
    return ((f"{name} row {number}", row) for number, row in enumerate(data, start=1))


def _chunks(rows: Iterable[Mapping[str, list[int]]], size: int) -> Iterator[list[Mapping[str, list[int]]]]:
    chunk: list[Mapping[str, list[int]]] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
