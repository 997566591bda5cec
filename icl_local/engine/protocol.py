"""Requests, results and options of the engine: plain values, each with a JSON form for the worker's pipe."""

from dataclasses import dataclass
from typing import Any

from icl_local.engine.sampling import Sampling

UNUSABLE_FILE = "the file is damaged or this version of llama.cpp does not support it; fetch or convert it again"


@dataclass(frozen=True)
class Request:
    """One prompt to complete, greedily or by ``sampling``, or to score a given text after.

    ``prompt`` is the whole text; the tokenizer adds BOS if the file asks for it. ``repetition_penalty`` follows
    Transformers' rule (engine/penalty.py). ``grammar`` is GBNF with a rule ``root``; the reply is then constrained.
    ``plain``: the characters of the prompt (start, end) in which control tokens are text; elsewhere they are tokens.
    ``target``: what is scored and not picked, ``max_tokens`` or fewer. Ids are appended to the prompt's as they are. A
    text is tokenized together with the prompt; scored are the ids after those that the whole shares with the prompt.
    """

    id: str
    prompt: str
    max_tokens: int = 1024
    stops: tuple[str, ...] = ()
    repetition_penalty: float = 1.1
    grammar: str | None = None
    ignore_eog: bool = False
    plain: tuple[int, int] | None = None
    sampling: Sampling | None = None
    target: str | tuple[int, ...] | None = None


@dataclass(frozen=True)
class Completion:
    """The result of one request.

    ``raw_text``: all generated tokens, control tokens as nothing, a torn last character as U+FFFD; a stop string is
    still in it. ``finish_reason``: stop | eog | length | prompt_too_long | stopped_on_loop | scored. ``tokens_saved``:
    the rest of the token limit that stop-on-loop left. ``tokens``: the generated ids, with the end token; empty from a
    server.
    ``end_token``: the text of the token that ended it (eog only). With ``EngineOptions.trace`` ``digests`` holds for
    each token the BLAKE2b digest (16 hex digits) of the raw logits it was picked from. ``probabilities``: for
    each score that a grammar let it write, those (7,) of engine/score_probabilities.py.

    A request with a target has here what the model said at the place of each of its ``tokens``. ``logprobs``: natural
    logarithms of the probabilities without the penalty. ``ranks``: the token's place by raw logit, from 1, equal logits
    by id as in the greedy pick; ``ranks_decoded``: after the repetition penalty; ``top_ids``: the model's own first
    choice. ``pieces``: id and text of each token among both, torn characters as U+FFFD, control tokens as the
    vocabulary spells them. ``n_bytes``: UTF-8 bytes of the tokens. ``straddles``: the last ids of the prompt changed
    when the target was appended, so scoring begins before the border. prompt_too_long: nothing is scored, because
    prompt and target exceed the context, or nothing comes before the target.
    """

    id: str
    raw_text: str
    finish_reason: str
    prompt_tokens: int
    new_tokens: int
    tokens_saved: int = 0
    tokens: tuple[int, ...] = ()
    end_token: str | None = None
    digests: tuple[str, ...] = ()
    probabilities: tuple[tuple[float, ...], ...] = ()
    logprobs: tuple[float, ...] = ()
    ranks: tuple[int, ...] = ()
    ranks_decoded: tuple[int, ...] = ()
    top_ids: tuple[int, ...] = ()
    pieces: tuple[tuple[int, str], ...] = ()
    n_bytes: int = 0
    straddles: bool = False


@dataclass(frozen=True)
class EngineOptions:
    """Settings of llama.cpp. None means chosen from the file, the memory and the cores of this machine.

    ``kv_unified=False`` gives each sequence its own KV stream; ``flash_attn=False`` and ``min_rows`` (the least
    number of tokens of a batch) keep sums independent of the other sequences: see engine/exact.py. ``repack`` is
    llama.cpp's weight repacking, ``kv_type`` f32 | f16. ``parallel`` None: as many as memory holds, at most
    ``parallel_most``.
    """

    parallel: int | None = None
    parallel_most: int = 16
    gpu_layers: int | None = None
    threads: int | None = None
    kv_type: str | None = None
    kv_unified: bool = False
    flash_attn: bool = False
    repack: bool | None = None
    min_rows: int = 2
    n_ubatch: int = 512
    share_prefix: bool = True
    stop_on_loop: bool = False
    trace: bool = False
    prefix_cache: str | None = None


@dataclass(frozen=True)
class EngineInfo:
    """The build, the loaded file, and the values chosen for options that were None; a server has a build only."""

    llama_build: str
    cpu_features: str = ""
    n_ctx_train: int = 0
    n_threads: int = 0
    gpu_layers: int = 0
    kv_type: str = ""
    repack: bool = False


@dataclass
class Stats:
    """Sums over a generate call. Seconds are wall clock; ``prefilled_tokens`` counts a shared prefix once.

    ``decode_seconds`` and ``prefill_seconds`` are spent in llama_decode, ``other_seconds`` is the rest of
    ``wall_seconds``: picking tokens, stop strings, bookkeeping.
    """

    n_done: int = 0
    prompt_tokens: int = 0
    prefilled_tokens: int = 0
    new_tokens: int = 0
    steps: int = 0
    wall_seconds: float = 0.0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    other_seconds: float = 0.0
    prefix_tokens: int = 0
    prefix_source: str = "decoded"
    n_parallel: int = 0
    peak_rss_bytes: int = 0
    interrupted: bool = False


def request_from_json(data: dict[str, Any]) -> Request:
    """Return the Request of a JSON object."""
    data = _frozen(data)
    return Request(**{**data, "sampling": data["sampling"] and Sampling(**data["sampling"])})


def completion_from_json(data: dict[str, Any]) -> Completion:
    """Return the Completion of a JSON object."""
    return Completion(**_frozen(data))


def _frozen(value: Any) -> Any:
    """Return a JSON value with tuples in the place of lists."""
    if isinstance(value, dict):
        return {name: _frozen(one) for name, one in value.items()}
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
