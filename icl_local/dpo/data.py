"""Preference pairs for DPO: read them, and turn them into tokens as TRL 0.14 to 0.15 did."""

import functools
import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icl_local.convert import tokenizer_of
from icl_local.exceptions import InputError, TrainingError
from icl_local.prompting import FILE_SUFFIXES
from icl_local.running import read_items

# The published sets and the split that TRL's script trains on. Both have a few pairs with the same answer twice,
# which have no gradient and were left in.
HUB_SPLITS = {"trl-lib/ultrafeedback_binarized": "train", "HuggingFaceH4/ultrafeedback_binarized": "train_prefs"}
# The chat template that TRL's script of that time gave to a base model without one.
SIMPLE_CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'].capitalize() + ': ' + message['content'] + '\n\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)

Side = str | list[dict[str, str]]


@dataclass(frozen=True)
class Pair:
    """One preference; all three fields are texts, or all are lists of messages with role and content."""

    prompt: Side
    chosen: Side
    rejected: Side


@dataclass(frozen=True)
class Preferences:
    """A set of pairs; ``sha256`` is over the pairs in order, not over the file."""

    name: str
    sha256: str
    pairs: tuple[Pair, ...]


def load_preferences(
    source: str, *, split: str | None = None, limit: int | None = None, identical: str | None = None
) -> Preferences:
    """Read the pairs of a hub data set or a file; at most ``limit`` of them, from the start.

    ``identical``: error, keep or drop for pairs whose two answers are the same (default: keep for the published sets,
    error for others). Raises InputError with file and line, HubError.
    """
    name, address = Path(source).name, source
    if Path(source).suffix.lower() not in FILE_SUFFIXES:
        name = source.removeprefix("hf:")
        if name.count("/") != 1:
            raise InputError(f"{source} is neither a data set of the hub, owner/name, nor a {', '.join(FILE_SUFFIXES)}")
        address = f"hf:{name}/{split or HUB_SPLITS.get(name, 'train')}"
    mode = identical or ("keep" if name in HUB_SPLITS else "error")
    pairs: list[Pair] = []
    for item in read_items(address)[0]:
        if limit is not None and len(pairs) >= limit:
            break
        pair = _pair(item.data, item.place)
        if pair.chosen == pair.rejected:
            if mode == "error":
                raise InputError(f"{item.place}: chosen and rejected are the same; fix it, or pass --identical drop")
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


def load_tokenizer(folder: Path) -> Any:
    """Load the tokenizer; EOS pads if it has no pad token. Raises TrainingError without EOS."""
    tokenizer = tokenizer_of(folder)
    if tokenizer.eos_token_id is None:
        raise TrainingError(f"{folder.name}: the tokenizer names no EOS token; set eos_token in tokenizer_config.json")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def paper_tokens(pair: Pair, tokenizer: Any, *, max_prompt_length: int | None) -> dict[str, list[int]]:
    """Return prompt_ids, chosen_ids and rejected_ids as TRL 0.14 to 0.15 did (not 0.13: docs/deviations.md).

    Prompt and answers are rendered by the chat template (SIMPLE_CHAT_TEMPLATE without one) and tokenised separately;
    no BOS is added to what the template writes; EOS ends each answer; a long prompt keeps its end. Raises
    TrainingError.
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
    """Return a datasets.Dataset of token lists, packed in chunks so that Python's lists never hold the whole set."""
    import pyarrow as pa
    from datasets import Dataset

    tables, remaining = [], iter(rows)
    while chunk := list(itertools.islice(remaining, n_chunk)):
        tables.append(pa.table({key: pa.array([row[key] for row in chunk], pa.list_(pa.int32())) for key in chunk[0]}))
    return Dataset(pa.concat_tables(tables))


def _texts(pair: Pair, tokenizer: Any) -> tuple[str, str, str]:
    if isinstance(pair.prompt, str) or isinstance(pair.chosen, str) or isinstance(pair.rejected, str):
        return str(pair.prompt), str(pair.chosen), str(pair.rejected)
    template = tokenizer.chat_template or SIMPLE_CHAT_TEMPLATE
    render = functools.partial(tokenizer.apply_chat_template, chat_template=template, tokenize=False)
    prompt: str = render(pair.prompt, add_generation_prompt=True)
    both: list[str] = [render(pair.prompt + answer) for answer in (pair.chosen, pair.rejected)]
    if not all(text.startswith(prompt) for text in both):
        raise TrainingError(
            "the chat template renders a prompt differently when the answer follows; "
            "give the pairs as texts (prompt, chosen, rejected) instead"
        )
    return prompt, both[0][len(prompt) :], both[1][len(prompt) :]


def _pair(row: Mapping[str, Any], place: str) -> Pair:
    for key in ("chosen", "rejected"):
        if row.get(key) is None:
            raise InputError(
                f"{place}: {key!r} is missing or empty; there are {', '.join(sorted(row)) or 'no columns'}"
            )
    chosen, rejected, prompt = _side(row["chosen"], place), _side(row["rejected"], place), row.get("prompt")
    if isinstance(chosen, str) != isinstance(rejected, str):
        raise InputError(f"{place}: chosen and rejected must both be texts or both be messages")
    # A text prompt beside conversations repeats their first message; TRL's script required that column to be dropped.
    prompt = None if isinstance(prompt, str) and not isinstance(chosen, str) else prompt
    if prompt is not None:
        side = _side(prompt, place)
        if isinstance(side, str) != isinstance(chosen, str):
            raise InputError(f"{place}: prompt and chosen must both be texts or both be messages")
        return Pair(side, chosen, rejected)
    both = zip(chosen[:-1], rejected[:-1], strict=False)
    shared = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], both))
    if shared and isinstance(chosen, str) and chosen[shared - 1] == " ":
        shared -= 1  # the space before a word belongs to it
    if not shared and not isinstance(chosen, str):
        raise InputError(f"{place}: no prompt, and the two conversations do not begin with the same message")
    return Pair(chosen[:shared], chosen[shared:], rejected[shared:])


def _side(value: Any, place: str) -> Side:
    if isinstance(value, str):
        return value
    messages = list(value) if isinstance(value, list | tuple) else []
    if not messages or not all(
        isinstance(m, Mapping) and isinstance(m.get("role"), str) and isinstance(m.get("content"), str)
        for m in messages
    ):
        raise InputError(f"{place}: expected a text or a list of messages with role and content")
    return [{"role": m["role"], "content": m["content"]} for m in messages]
