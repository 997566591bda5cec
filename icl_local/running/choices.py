"""Choose instead of generate: the response is the choice of its query with the largest summed log-probability.

The choices of a query are scored after one prompt, which is decoded once. Response and choices are stored together, so
a killed run scores the choices of a query again or not at all.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from icl_local.engine import Completion, Request
from icl_local.identity import key_of
from icl_local.prompting import Prompt, Query
from icl_local.store import Record, Row
from icl_local.weights import ResolvedModel

CHOSEN = "chosen"  # finish_reason of a response
Spelled = set[tuple[int, str]]  # pieces of tokens that have a row
_OF_SCORED = ("tokens", "logprobs", "ranks", "ranks_decoded", "top_ids", "finish_reason", "n_bytes", "straddles")


@dataclass(frozen=True)
class Chosen(Completion):
    """The response picked among ``scored``: each choice's text and score; ``new_tokens`` are those of all choices."""

    scored: tuple[tuple[str, Completion], ...] = ()


def choose(
    worker: Any, requests: Sequence[Request], choices: Mapping[str, Sequence[str]], **how: Any
) -> Iterator[Chosen]:
    """Yield the choice that each request picks of ``choices`` (by the request's id), in any order.

    ``how``: options of Worker.generate. Of equal choices the last in alphabetical order is picked, so that their order
    in the file does not matter. A query with a choice beyond the context ends as prompt_too_long.
    """
    targets = [
        replace(one, id=f"{one.id} {text}", max_tokens=n_bytes(text), repetition_penalty=1.0, target=text)
        for one in requests
        for text in choices[one.id]
    ]
    found: dict[str, dict[str, Completion]] = {one.id: {} for one in requests}
    for scored in worker.generate(targets, **how):
        key, _, text = scored.id.partition(" ")
        found[key][text] = scored
        if len(found[key]) == len(choices[key]):
            yield _pick(key, [(text, found[key][text]) for text in choices[key]])


def _pick(key: str, scored: Sequence[tuple[str, Completion]]) -> Chosen:
    n_prompt = min(one.prompt_tokens for _, one in scored)
    if any(one.finish_reason != "scored" for _, one in scored):
        return Chosen(key, "", "prompt_too_long", n_prompt, 0)
    text, _ = max(scored, key=lambda one: (sum(one[1].logprobs), one[0]))
    new_tokens = sum(one.new_tokens for _, one in scored)
    return Chosen(key, text, CHOSEN, n_prompt, new_tokens, scored=tuple(scored))


def choice_rows(
    chosen: Chosen, query: Query, prompt: Prompt, model: ResolvedModel, cell: Mapping[str, object], spelled: Spelled
) -> Iterator[Record]:
    """Yield the rows of raw.scorings and raw.tokens of a response; ``cell``: columns of its cell and run."""
    shared = {"kind": "choice", "response_id": chosen.id, "prompt_id": prompt.prompt_id, "penalty": 1.0}
    shared |= {name: cell[name] for name in ("run_id", "exact")}
    for place, (text, scored) in enumerate(chosen.scored):
        row = asked_row(query, model, str(cell["method"]), prompt.sha256, **shared, choice=place, text=text)
        yield from scored_rows(row, scored, model, spelled)


def asked_row(query: Query, model: ResolvedModel, method: str, prompt_sha256: str, **columns: Any) -> Row:
    """Return the row of raw.scorings of a text before it is scored; ``columns``: its kind, and columns of its own."""
    of = columns.get("response_id", query.key)
    text = of if columns["kind"] == "answer" else [of, columns["text"]]
    kind = f"scored {columns['kind']}"
    key = key_of(kind=kind, weights=model.sha256, method=method, prompt=prompt_sha256, text=text)
    row = {"scoring_id": key, "query_key": query.key, "language": query.language, "method": method}
    row |= {"model_id": model.model_id, "gguf_sha256": model.sha256, "prompt_sha256": prompt_sha256}
    return {**row, "retokenised": False, **columns}


def scored_rows(row: Row, scored: Completion, model: ResolvedModel, spelled: Spelled) -> Iterator[Record]:
    """Yield the row of raw.scorings of a scored text, and rows of raw.tokens of its tokens that are not ``spelled``."""
    for token_id, piece in sorted({*scored.pieces} - spelled):
        yield "tokens", {"vocab_sha256": model.info.vocab_sha256, "token_id": token_id, "piece": piece}
    spelled.update(scored.pieces)
    found = {name: getattr(scored, name) for name in _OF_SCORED}
    yield "scorings", {**row, **found, "logprob": sum(scored.logprobs)}


def n_bytes(text: str) -> int:
    """Return the UTF-8 bytes of a text, the most tokens that it can have."""
    return len(text.encode("utf-8", "replace"))
