"""Verification: decode stored responses again, one at a time without prefix sharing, and compare token by token.

``verify_responses`` (icl verify) draws a random sample of a database. `icl run` takes a few responses of a cell
that it has just made, the longest among them (``verify_made``). What was compared is stored in raw.verifications; on a
machine like the one that made a response, a difference makes ``exact`` false for its file, llama.cpp build, CPU and
engine settings (views exactness and responses), and the next run looks for other settings.
"""

import random
import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from icl_local import cache, store
from icl_local.detect import ANSWER_RULE, find_answer
from icl_local.engine import Completion, EngineOptions, Request, Sampling, Worker, shared_length, system_info
from icl_local.exceptions import ConfigError
from icl_local.identity import key_of, sha256_text
from icl_local.running.probe import refute
from icl_local.store import Row
from icl_local.weights import ResolvedModel, registry

CONFIDENCE = 0.99
_KERNEL = ("kv_unified", "flash_attn", "min_rows", "repack", "n_ubatch")  # settings a response is decoded again with
_SHOWN = 60  # characters of a text on each side of its first difference


@dataclass(frozen=True)
class Stored:
    """A stored response, and the request that decodes it again.

    ``row``: of db/queries/responses_to_decode.sql; its ``text`` of None was cut by another rule and is not compared.
    """

    row: Mapping[str, Any]
    request: Request

    @property
    def decoding(self) -> dict[str, Any]:
        """Return EngineOptions fields that decode it one at a time with the kernels of its run."""
        settings = self.row["engine_settings"]
        kernel = {name: settings[name] for name in _KERNEL if name in settings}
        return {**kernel, "stop_on_loop": bool(self.row["stop_on_loop"]), "parallel": 1, "share_prefix": False}

    @property
    def loaded_for(self) -> tuple[str, str, int]:
        """Return file, KV type and layers on the GPU of its run."""
        settings = self.row["engine_settings"]
        kv_type, gpu_layers = settings.get("kv_type") or "f16", settings.get("gpu_layers") or 0
        return self.row["gguf_sha256"], str(kv_type), int(gpu_layers)

    def verification_id(self, llama_build: str, cpu_features: str) -> str:
        """Return the key of what is compared, and of the machine, whose evidence is not another one's."""
        return key_of(
            kind="verification",
            response=self.request.id,
            stored=[self.row["tokens"], sha256_text(self.row["raw_text"]), sha256_text(self.row["text"] or "")],
            verified_by=[_machine_id(), llama_build, cpu_features],
        )


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
        facts = system_info()
        known = store.ids(path, "verifications", "verification_id")
        keys = [one.verification_id(facts["llama_build"], facts["cpu_features"]) for one in stored]
        unknown = (one for one, key in zip(stored, keys, strict=True) if key not in known)
        todo = sorted(unknown, key=lambda one: one.loaded_for)
        done = len(stored) - len(todo)
        on_progress(done, len(stored))
        for (sha256, kv_type, layers), group in groupby(todo, key=lambda one: one.loaded_for):
            alike = list(group)
            model = registry.by_sha256(sha256, alike[0].row["file_name"], alike[0].row["bytes"], files=weights)
            recorded = None if layers < 0 else layers
            options = EngineOptions(
                kv_type=kv_type, threads=threads, gpu_layers=recorded if gpu_layers is None else gpu_layers
            )
            with Worker(model.path, options) as worker:
                for _ in _verify(writer, model, worker, alike):
                    done += 1
                    on_progress(done, len(stored))
        kept = writer.named("verifications_by_id", [keys]).dicts()
    return VerifyResult(tuple(kept), len(candidates), excluded)


def _verify(writer: store.Store, model: ResolvedModel, worker: Any, stored: Sequence[Stored]) -> Iterator[bool]:
    """Decode the responses again one at a time, store each comparison, and yield whether it is equal."""
    ordered = sorted(stored, key=lambda one: key_of(**one.decoding))
    for _, alike in groupby(ordered, key=lambda one: one.decoding):
        by_id = {one.request.id: one for one in alike}
        decoding = next(iter(by_id.values())).decoding
        for completion in worker.generate([one.request for one in by_id.values()], **decoding):
            found = compare(by_id[completion.id], completion)
            _keep(writer, model, worker, by_id[completion.id], found)
            yield found["equal"]


def compare(stored: Stored, completion: Completion) -> Row:
    """Compare prompt, tokens, raw text, and the answer cut from it; return columns of raw.verifications.

    ``position``: the first token that differs, None where a text or the prompt alone does.
    """
    row, stored_tokens = stored.row, tuple(stored.row["tokens"])
    if row["prompt_sha256"] != sha256_text(stored.request.prompt):
        return {"equal": False, "stored_text": "another prompt was sent", "decoded_text": "the stored prompt"}
    answer = find_answer(completion.raw_text, stops=stored.request.stops, prompt_tail=row["tail"]).text
    decoded = {"raw_text": completion.raw_text, "text": answer}  # the database has U+FFFD for NUL
    pairs = [(row[name], text.replace("\0", "\ufffd")) for name, text in decoded.items() if row[name] is not None]
    differing = [pair for pair in pairs if pair[0] != pair[1]]
    position = None if stored_tokens == completion.tokens else shared_length(stored_tokens, completion.tokens)
    if position is None and not differing:
        return {"equal": True}
    texts = (differing or pairs)[0]
    at = shared_length(*texts)  # their first different character
    around = slice(max(0, at - _SHOWN), at + _SHOWN)
    return {"equal": False, "position": position, "stored_text": texts[0][around], "decoded_text": texts[1][around]}


def _keep(writer: store.Store, model: ResolvedModel, worker: Any, verified: Stored, found: Row) -> None:
    """Store a comparison; a difference on a machine like the one that made the response refutes its settings."""
    stored, info = verified.row, worker.info
    copied = ("response_id", "cell_id", "gguf_sha256", "llama_build", "cpu_features")
    row = {
        **{name: stored[name] for name in copied},
        **found,
        "verification_id": verified.verification_id(info.llama_build, info.cpu_features),
        "settings": stored["engine_settings"],
        "n_tokens": len(stored["tokens"]),
        "verified_build": info.llama_build,
        "verified_cpu_features": info.cpu_features,
    }
    writer.put([("verifications", row)])
    if not found["equal"] and (stored["llama_build"], stored["cpu_features"]) == (info.llama_build, info.cpu_features):
        refute(writer, model, worker, stored["engine_settings"], found.get("position") or 0)


def pick(lengths: Mapping[str, int], n: int, *, seed: str) -> list[str]:
    """Return the longest response and ``n`` - 1 others drawn at random; ``lengths`` are tokens by response id."""
    if not lengths or not n:
        return []
    longest = max(lengths, key=lambda response_id: lengths[response_id])
    return [longest, *draw([one for one in lengths if one != longest], n - 1, seed=seed)]


def verify_made(writer: store.Store, model: ResolvedModel, worker: Any, response_ids: Sequence[str]) -> Iterator[bool]:
    """Verify responses that ``worker`` has just made; yield whether each is equal. Raises ModelError, StoreError."""
    yield from _verify(writer, model, worker, _stored(writer, response_ids))


def _stored(writer: store.Store, response_ids: Sequence[str]) -> list[Stored]:
    rows = writer.named("responses_to_decode", [list(response_ids), ANSWER_RULE]).records()
    return [Stored(row, _request(row)) for row in rows]


def _request(row: Mapping[str, Any]) -> Request:
    prompt, plain = stored_prompt(row)
    sampling = None
    if row["drawn"]:
        temperature, top_p, min_p, *of = row["drawn"].values()
        sampling = Sampling(temperature, top_p, min_p, tuple(of))
    return Request(
        row["response_id"],
        prompt,
        row["max_tokens"],
        tuple(row["stops"]),
        repetition_penalty=row["repetition_penalty"],
        plain=plain,
        sampling=sampling,
    )


def stored_prompt(row: Mapping[str, Any]) -> tuple[str, tuple[int, int] | None]:
    """Return the prompt of a stored response, and the characters in which control tokens are text (see Request)."""
    prompt, around = row["head"], row["frame"]
    if row["tail"] is not None:
        prompt, around = row["head"] + row["instruction"] + row["tail"], row
    if around is not None:
        plain = len(around["head"]), len(prompt) - len(around["tail"])
    else:  # the chat template changed every query of the cell; it may have removed the white space around this one
        query = row["instruction"].strip()
        start = prompt.rfind(query)
        plain = start, start + len(query)
    return prompt, plain if row["plain_queries"] else None


def _machine_id() -> str:
    """Return a random name of this user's machine, made on first use; it leaves the machine only as a hash."""
    with suppress(OSError, ValueError):
        return cache.cache_path("machine-id").read_text(encoding="utf-8")
    made = secrets.token_hex(16)
    cache.write("machine-id", made)
    return made
