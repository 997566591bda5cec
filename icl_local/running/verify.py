"""Verification: decode stored responses again, one at a time without prefix sharing, and compare token by token.

``verify_responses`` (icl verify) draws a random sample of a database. `icl run` takes a few responses of a cell
that it has just made, the longest among them (``verify_made``). What was compared is stored in raw.verifications; on a
machine like the one that made a response, a difference makes ``exact`` false for its file, llama.cpp build, CPU and
engine settings (views exactness and responses), and the next run looks for other settings.
"""

from __future__ import annotations

import random
import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from icl_local import store
from icl_local.detect import ANSWER_RULE, find_answer
from icl_local.engine import Completion, EngineOptions, Request, Sampling, Worker, system_info
from icl_local.exceptions import ConfigError
from icl_local.files import PRIVATE, write_file
from icl_local.identity import key_of, sha256_text
from icl_local.running.probe import refute
from icl_local.weights import ResolvedModel, cache_folder, registry

CONFIDENCE = 0.99
_KERNEL = ("kv_unified", "flash_attn", "min_rows", "repack", "n_ubatch")  # settings a response is decoded again with
_SHOWN = 60  # characters of a text on each side of its first difference


@dataclass(frozen=True)
class Stored:
    """A stored response and what it takes to decode it again. ``settings``: engine settings of its run.

    ``text`` None: the answer was cut by another rule and is not compared. ``file``: name and bytes of the GGUF file.
    """

    response_id: str
    cell_id: str | None
    gguf_sha256: str
    llama_build: str | None
    cpu_features: str | None
    settings: Mapping[str, Any]
    request: Request
    prompt_sha256: str
    prompt_tail: str | None
    stop_on_loop: bool
    tokens: tuple[int, ...]
    raw_text: str
    text: str | None = None
    file: tuple[str, int | None] = ("", None)

    @property
    def decoding(self) -> dict[str, Any]:
        """EngineOptions fields that decode it one at a time with the kernels of its run."""
        kernel = {name: self.settings[name] for name in _KERNEL if name in self.settings}
        return {**kernel, "stop_on_loop": self.stop_on_loop, "parallel": 1, "share_prefix": False}

    def verification_id(self, llama_build: str, cpu_features: str) -> str:
        """Return the key of what is compared, and of the machine, whose evidence is not another one's."""
        return key_of(
            kind="verification",
            response=self.response_id,
            stored=[list(self.tokens), sha256_text(self.raw_text), sha256_text(self.text or "")],
            verified_by=[_machine_id(), llama_build, cpu_features],
        )


@dataclass(frozen=True)
class Verified:
    """A comparison; ``position``: the first token that differs, None where a text or the prompt alone does."""

    stored: Stored
    equal: bool
    position: int | None = None
    stored_text: str | None = None
    decoded_text: str | None = None


@dataclass(frozen=True)
class VerifyResult:
    """``rows``: columns of db/queries/verifications_by_id.sql, differences first.

    ``excluded``: responses of the selection that cannot be decoded again, by reason.
    """

    rows: tuple[dict[str, Any], ...]
    n_responses: int
    excluded: Mapping[str, int] = field(default_factory=dict)

    @property
    def n_equal(self) -> int:
        """Return the number of verified responses without a difference."""
        return sum(row["equal"] for row in self.rows)

    @property
    def differing_below(self) -> float | None:
        """Return the most that can differ, a share, with 99 % confidence; None after a difference or without rows."""
        return 1 - (1 - CONFIDENCE) ** (1 / len(self.rows)) if 0 < len(self.rows) == self.n_equal else None

    def by_machine(self) -> list[tuple[Any, ...]]:
        """Return (llama.cpp build, CPU features, verified, equal) by the machine that made the responses."""
        groups: dict[tuple[Any, ...], list[bool]] = {}
        for row in self.rows:
            groups.setdefault((row["llama_build"], row["cpu_features"]), []).append(row["equal"])
        return [(*machine, len(equal), sum(equal)) for machine, equal in groups.items()]

    def differences(self) -> list[dict[str, Any]]:
        """Return the rows that differ."""
        return [row for row in self.rows if not row["equal"]]


def draw(response_ids: Sequence[str], n: int, *, seed: int | str) -> list[str]:
    """Return ``n`` ids drawn without replacement, all where there are fewer; the same for the same ids and seed."""
    return random.Random(seed).sample(sorted(response_ids), min(n, len(response_ids)))


def verify_responses(
    path: Path,
    *,
    sample: int = 459,
    seed: int = 0,
    selection: store.Selection | None = None,
    weights: Sequence[str | Path] = (),
    threads: int | None = None,
    gpu_layers: int | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> VerifyResult:
    """Verify a random sample of the stored responses on this machine.

    ``weights``: GGUF files beside those of this folder and of `icl models list`. What this machine has verified before
    with the same tokens, build and CPU is not decoded again, so a killed call resumes. ``on_progress``: responses
    verified, and drawn. Raises ConfigError, ModelError (no file here has the SHA-256, EngineError among them),
    StoreError.
    """
    if sample < 1:
        raise ConfigError(f"--sample must be at least 1, not {sample}")
    found = store.selected(path, "verifiable", selection or store.Selection()).rows
    excluded = Counter(reason for _, reason in found if reason is not None)
    candidates = [response_id for response_id, reason in found if reason is None]
    drawn = draw(candidates, sample, seed=seed)
    with store.Store(path) as writer:
        stored = _stored(writer, drawn)
        files = {one.gguf_sha256: one.file for one in stored}
        facts = system_info()
        known = store.ids(path, "verifications", "verification_id")
        keys = [one.verification_id(facts["llama_build"], facts["cpu_features"]) for one in stored]
        todo = sorted((one for one, key in zip(stored, keys, strict=True) if key not in known), key=_loaded_for)
        done = len(stored) - len(todo)
        on_progress(done, len(stored))
        for (sha256, kv_type, layers), alike in groupby(todo, key=_loaded_for):
            model = registry.by_sha256(sha256, *files[sha256], files=weights)
            recorded = None if layers < 0 else layers
            options = EngineOptions(
                kv_type=kv_type, threads=threads, gpu_layers=recorded if gpu_layers is None else gpu_layers
            )
            with Worker(model.path, options) as worker:
                for one in decode(worker, list(alike)):
                    keep(writer, model, worker, one)
                    done += 1
                    on_progress(done, len(stored))
        kept = writer.named("verifications_by_id", [keys]).dicts()
    return VerifyResult(tuple(kept), len(candidates), excluded)


def decode(worker: Any, stored: Sequence[Stored]) -> Iterator[Verified]:
    """Decode the responses again one at a time, and yield the comparison of each. Raises EngineError."""
    ordered = sorted(stored, key=_decoding_key)
    for _, alike in groupby(ordered, key=_decoding_key):
        by_id = {one.response_id: one for one in alike}
        decoding = next(iter(by_id.values())).decoding
        for completion in worker.generate([one.request for one in by_id.values()], **decoding):
            yield compare(by_id[completion.id], completion)


def compare(stored: Stored, completion: Completion) -> Verified:
    """Compare a stored response with its completion: prompt, tokens, raw text, and the answer cut from it."""
    if stored.prompt_sha256 != sha256_text(stored.request.prompt):
        return Verified(stored, False, None, "another prompt was sent", "the stored prompt")
    decoded_text = completion.raw_text.replace("\0", "\ufffd")  # as the database has it
    answer = find_answer(completion.raw_text, stops=stored.request.stops, prompt_tail=stored.prompt_tail).text
    pairs = [(stored.raw_text, decoded_text)]
    if stored.text is not None:
        pairs.append((stored.text, answer.replace("\0", "\ufffd")))
    texts = next((pair for pair in pairs if pair[0] != pair[1]), None)
    if stored.tokens == completion.tokens and texts is None:
        return Verified(stored, True)
    shorter = min(len(stored.tokens), len(completion.tokens))
    position = next((i for i in range(shorter) if stored.tokens[i] != completion.tokens[i]), shorter)
    same_tokens = stored.tokens == completion.tokens
    return Verified(stored, False, None if same_tokens else position, *_around(*(texts or pairs[0])))


def keep(writer: store.Store, model: ResolvedModel, worker: Any, verified: Verified) -> None:
    """Store a comparison; a difference on a machine like the one that made the response refutes its settings."""
    stored, info = verified.stored, worker.info
    row = {
        "verification_id": stored.verification_id(info.llama_build, info.cpu_features),
        "response_id": stored.response_id,
        "cell_id": stored.cell_id,
        "gguf_sha256": stored.gguf_sha256,
        "llama_build": stored.llama_build,
        "cpu_features": stored.cpu_features,
        "settings": dict(stored.settings),
        "equal": verified.equal,
        "n_tokens": len(stored.tokens),
        "position": verified.position,
        "stored_text": verified.stored_text,
        "decoded_text": verified.decoded_text,
        "verified_build": info.llama_build,
        "verified_cpu_features": info.cpu_features,
        "created_at": store.now(),
    }
    writer.put([("verifications", row)])
    if not verified.equal and (stored.llama_build, stored.cpu_features) == (info.llama_build, info.cpu_features):
        refute(writer, model, worker, stored.settings, verified.position or 0)


def pick(lengths: Mapping[str, int], n: int, *, seed: str) -> list[str]:
    """Return the longest response and ``n`` - 1 others drawn at random; ``lengths`` are tokens by response id."""
    if not lengths or not n:
        return []
    longest = max(lengths, key=lambda response_id: lengths[response_id])
    return [longest, *draw([one for one in lengths if one != longest], n - 1, seed=seed)]


def verify_made(writer: store.Store, model: ResolvedModel, worker: Any, response_ids: Sequence[str]) -> list[bool]:
    """Verify responses that ``worker`` has just made; return whether each is equal. Raises ModelError, StoreError."""
    equal = []
    for one in decode(worker, _stored(writer, response_ids)):
        keep(writer, model, worker, one)
        equal.append(one.equal)
    return equal


def _stored(writer: store.Store, response_ids: Sequence[str]) -> list[Stored]:
    rows = writer.named("responses_to_decode", [list(response_ids)]).records()
    return [_from_row(row) for row in rows]


def _from_row(row: Mapping[str, Any]) -> Stored:
    """Return a row of db/queries/responses_to_decode.sql as a Stored."""
    tokens = tuple(row["tokens"])
    prompt, plain = stored_prompt(row)
    request = Request(
        row["response_id"],
        prompt,
        row["max_tokens"],
        tuple(row["stops"]),
        repetition_penalty=row["repetition_penalty"],
        plain=plain,
        sampling=row["drawn"] and _sampling(**row["drawn"]),
    )
    return Stored(
        row["response_id"],
        row["cell_id"],
        row["gguf_sha256"],
        row["llama_build"],
        row["cpu_features"],
        row["engine_settings"],
        request,
        row["prompt_sha256"],
        row["tail"],
        bool(row["stop_on_loop"]),
        tokens,
        row["raw_text"],
        row["text"] if row["answer_rule"] == ANSWER_RULE else None,
        (row["file_name"] or row["gguf_sha256"], row["bytes"]),
    )


def _sampling(
    temperature: float, top_p: float, min_p: float, seed: int, dataset: str, query_id: str, number: int
) -> Sampling:
    return Sampling(temperature, top_p, min_p, (seed, dataset, query_id, number))


def stored_prompt(row: Mapping[str, Any]) -> tuple[str, tuple[int, int] | None]:
    """Return the prompt of a stored response, and the characters in which control tokens are text (see Request)."""
    prompt = row["head"] if row["tail"] is None else row["head"] + row["instruction"] + row["tail"]
    return prompt, _query_at(prompt, row) if row["plain_queries"] else None


def _query_at(prompt: str, row: Mapping[str, Any]) -> tuple[int, int]:
    """Return the place of the query in its prompt; a chat template may have removed the white space around it."""
    if row["tail"] is not None:
        return len(row["head"]), len(prompt) - len(row["tail"])
    query = row["instruction"].strip()
    return prompt.find(query), prompt.find(query) + len(query)


def _loaded_for(stored: Stored) -> tuple[str, str, int]:
    settings = stored.settings
    return stored.gguf_sha256, str(settings.get("kv_type") or "f16"), int(settings.get("gpu_layers") or 0)


def _decoding_key(stored: Stored) -> str:
    return key_of(**stored.decoding)


def _around(stored: str, decoded: str) -> tuple[str, str]:
    """Return both texts around their first different character."""
    shorter = min(len(stored), len(decoded))
    at = next((i for i in range(shorter) if stored[i] != decoded[i]), shorter)
    start = max(0, at - _SHOWN)
    return stored[start : at + _SHOWN], decoded[start : at + _SHOWN]


def _machine_id() -> str:
    """Return a random name of this user's machine, made on first use; it leaves the machine only as a hash."""
    path = cache_folder() / "machine-id"
    with suppress(OSError, ValueError):
        return path.read_text(encoding="utf-8")
    made = secrets.token_hex(16)
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_file(path, made, mode=PRIVATE)
    return made
