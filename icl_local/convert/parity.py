"""The parity gate: proof that a GGUF file is the checkpoint it was made from.

First the content of the file is compared with the checkpoint (header, vocabulary, tensors, every weight), then its
behaviour: llama.cpp's tokens on texts in many languages, BOS, the chat template, and the logits of an F32 file against
Transformers in float32. If memory is too small for the float32 model, the logits are reported as skipped, and the
weights are the proof. The gate repairs nothing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from icl_local import engine, resources
from icl_local.convert.checkpoint import Checkpoint, Shape, TensorPlan
from icl_local.convert.tokenizer import Vocabulary, load_vocabulary
from icl_local.exceptions import ConversionError, IclError, MissingExtra, ModelError
from icl_local.weights import read_info

MAX_POSITIONS = 512  # of the sample texts whose logits are compared
LOGIT_TOLERANCE = 1e-3  # in standard deviations of the logits; docs/measurements.md has the values seen
MIN_NEXT_TOKEN_AGREEMENT = (
    0.2  # below that the file is a wreck; Q4_0 of a 135M model keeps 0.55 on texts it hardly knows
)
MAX_QUANTIZATION_ERROR = 0.5  # root mean square of the error over that of a tensor; Q2_K stays near 0.3
_EXACT_TYPES = ("F32", "F16", "BF16")


@dataclass(frozen=True)
class Check:
    """One check of the gate: ``status`` is passed, failed or skipped; ``detail`` is one line."""

    name: str
    status: str
    detail: str
    figures: Mapping[str, float | int | str] = field(default_factory=dict)


def _check(
    name: str, wrong: Sequence[str], right: str, figures: Mapping[str, float | int | str] | None = None
) -> Check:
    """Return a check that failed with up to three faults, or passed."""
    return Check(name, "failed" if wrong else "passed", "; ".join(wrong[:3]) or right, figures or {})


@dataclass(frozen=True)
class GateResult:
    """All checks of one file, in order."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Return whether no check failed."""
        return all(check.status != "failed" for check in self.checks)

    @property
    def reasons(self) -> str:
        """Return the failed checks in one line."""
        return "; ".join(f"{check.name}: {check.detail}" for check in self.checks if check.status == "failed")

    def report(self) -> dict[str, Any]:
        """Return the result as JSON for raw.conversions.gate_report."""
        return {c.name: {"status": c.status, "detail": c.detail, **c.figures} for c in self.checks}


class Reference:
    """The checkpoint in Transformers: its own tokenizer.json and, if memory allows, float32 logits.

    Raises MissingExtra without Transformers and torch, ConversionError if they cannot run the checkpoint.
    """

    def __init__(self, checkpoint: Checkpoint, *, memory_bytes: int | None = None) -> None:
        try:
            import torch  # noqa: F401
            from transformers import PreTrainedTokenizerFast
        except ImportError:
            raise MissingExtra("dpo", "transformers, which the parity gate compares with,") from None
        self.checkpoint = checkpoint
        self.vocabulary = load_vocabulary(checkpoint.tokenizer_folder, n_rows=checkpoint.shape.vocab_size)
        # This class runs tokenizer.json as it is; LlamaTokenizer rebuilds it and treats a leading space differently.
        folder = checkpoint.tokenizer_folder
        self.tokenizer: Any = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
        self._memory_bytes = memory_bytes

    @cached_property
    def sample_ids(self) -> list[int]:
        """Return token ids of the sample texts in sequence, at most MAX_POSITIONS or the context length."""
        ids: list[int] = []
        for text in sample_texts():
            ids += self.tokenizer(text, add_special_tokens=not ids)["input_ids"]
        return ids[: min(MAX_POSITIONS, self.checkpoint.shape.context_length)]

    @cached_property
    def why_no_logits(self) -> str | None:
        """Return why the model cannot be run in float32 here, None if it can."""
        needed = 4 * (self.checkpoint.parameters + 3 * len(self.sample_ids) * self.checkpoint.shape.vocab_size)
        available = self._memory_bytes
        if available is None:
            import psutil

            available = int(psutil.virtual_memory().available * 0.9)
        if needed <= available:
            return None
        return f"float32 needs {needed / 1e9:.1f} GB of memory, {available / 1e9:.1f} GB are free"

    @cached_property
    def logits(self) -> NDArray[np.float32] | None:
        """Return logits [n_positions, n_vocab] in float32 (eager attention); None without memory."""
        if self.why_no_logits:
            return None
        import torch
        from transformers import AutoModelForCausalLM
        from transformers.utils import logging

        logging.disable_progress_bar()
        try:
            model: Any = AutoModelForCausalLM.from_pretrained(
                self.checkpoint.model_folder,
                dtype=torch.float32,
                attn_implementation="eager",
                local_files_only=True,
                trust_remote_code=False,
            )
            if self.checkpoint.adapter:
                from peft import PeftModel

                model = PeftModel.from_pretrained(model, self.checkpoint.folder).merge_and_unload()
            with torch.inference_mode():
                logits: NDArray[np.float32] = model(torch.tensor([self.sample_ids])).logits[0].float().numpy()
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise ConversionError(f"Transformers cannot run {self.checkpoint.folder.name}: {error}") from error
        return logits


def sample_texts() -> list[str]:
    """Return the texts of prompts/parity.jsonl: 25 languages, code, spaces, numbers, emoji."""
    return [json.loads(line)["text"] for line in resources.read_text("prompts", "parity.jsonl").splitlines()]


def gate(
    path: Path,
    reference: Reference,
    *,
    logits: Check | None = None,
    expected: NDArray[np.int64] | None = None,
    on_progress: Callable[[str], None] | None = None,
) -> GateResult:
    """Check the file at ``path``. Faults of the file are in the result and never raised.

    ``logits``: the check of an F32 sibling if ``path`` itself is of another type. ``expected``: greedy next
    tokens [n_positions] of the sample texts, for a model that does not fit into memory in Transformers.
    """
    say = on_progress or (lambda _: None)
    try:
        read_info(path)
    except ModelError as error:
        return GateResult((Check("file", "failed", str(error)),))
    import gguf

    reader: Any = gguf.GGUFReader(path)
    kind = _file_type(reader)
    say("header, vocabulary and tensors")
    checks = [
        _header(reader, reference),
        _vocabulary(reader, reference.vocabulary),
        _tensor_set(reader, reference.checkpoint.plans),
    ]
    say("weights")
    checks.append(_weights(reader, reference.checkpoint))
    say("tokens")
    checks += _tokens(path, reference)
    say("logits")
    if kind == "F32":
        checks.append(check_logits(path, reference))
    else:
        checks.append(logits or Check("logits", "skipped", f"{reference.why_no_logits}; the weights are the proof"))
        if expected is None and reference.logits is not None:
            expected = reference.logits.argmax(-1)
        if expected is None:
            checks.append(Check("next_token", "skipped", str(reference.why_no_logits)))
        else:
            checks.append(compare_next_tokens(path, reference.sample_ids, expected))
    return GateResult(tuple(checks))


def header_fields(shape: Shape) -> dict[str, int | float]:
    """Return the hyper-parameter keys of a ``llama`` GGUF file and their values."""
    return {
        "llama.vocab_size": shape.vocab_size,
        "llama.context_length": shape.context_length,
        "llama.embedding_length": shape.hidden_size,
        "llama.block_count": shape.n_layers,
        "llama.feed_forward_length": shape.intermediate_size,
        "llama.attention.head_count": shape.n_heads,
        "llama.attention.head_count_kv": shape.n_kv_heads,
        "llama.attention.key_length": shape.head_dim,
        "llama.attention.value_length": shape.head_dim,
        "llama.attention.layer_norm_rms_epsilon": shape.rms_norm_eps,
        "llama.rope.freq_base": shape.rope_theta,
        "llama.rope.dimension_count": shape.head_dim,
    }


def check_logits(path: Path, reference: Reference) -> Check:
    """Compare llama.cpp's logits of an F32 file (F32 KV cache) with Transformers' in float32."""
    if reference.logits is None:
        return Check("logits", "skipped", f"{reference.why_no_logits}; the weights are the proof")
    try:
        found = engine.prompt_logits(path, reference.sample_ids, kv_type="f32")
    except IclError as error:
        return Check("logits", "failed", str(error))
    difference = float(np.abs(found - reference.logits).max())
    relative = difference / float(reference.logits.std() or 1.0)
    agreement = float((found.argmax(-1) == reference.logits.argmax(-1)).mean())
    figures = {"positions": len(found), "max_difference": difference, "relative": relative, "agreement": agreement}
    status = "passed" if relative <= LOGIT_TOLERANCE else "failed"  # a NaN compares false
    detail = f"largest difference {difference:.2g} ({relative:.2g} standard deviations) on {len(found)} positions"
    return Check("logits", status, detail, figures)


def _file_type(reader: Any) -> str:
    """Return the most frequent type of the matrices."""
    names: list[str] = [tensor.tensor_type.name for tensor in reader.tensors if len(tensor.shape) > 1]
    return max(set(names), key=names.count)


def _value(reader: Any, key: str) -> Any:
    found = reader.fields.get(key)
    return None if found is None else found.contents()


def _header(reader: Any, reference: Reference) -> Check:
    wrong = []
    for key, expected in header_fields(reference.checkpoint.shape).items():
        found = _value(reader, key)
        if found is None or not math.isclose(found, expected, rel_tol=1e-6):
            wrong.append(f"{key} is {found}, the checkpoint says {expected}")
    scaling = _value(reader, "llama.rope.scaling.type")
    if scaling not in (None, "none"):
        wrong.append(f"llama.rope.scaling.type is {scaling!r}; scaling belongs in rope_freqs.weight")
    return _check("header", wrong, "hyper-parameters agree")


def _vocabulary(reader: Any, vocabulary: Vocabulary) -> Check:
    wrong = []
    for key, expected in vocabulary.fields().items():
        found = _value(reader, key)
        if found != expected:
            wrong.append(f"{key} {_first_difference(found, expected)}")
    return _check("vocabulary", wrong, f"{len(vocabulary.tokens)} tokens agree")


def _first_difference(found: object, expected: object) -> str:
    if isinstance(found, list) and isinstance(expected, list):
        if len(found) != len(expected):
            return f"has {len(found)} entries, the checkpoint {len(expected)}"
        at = next(i for i, (a, b) in enumerate(zip(found, expected, strict=True)) if a != b)
        return f"differs at {at}: {found[at]!r}, the checkpoint says {expected[at]!r}"
    return f"is {str(found)[:80]!r}, the checkpoint says {str(expected)[:80]!r}"


def _tensor_set(reader: Any, plans: Sequence[TensorPlan]) -> Check:
    found = {tensor.name: tuple(int(n) for n in reversed(tensor.shape)) for tensor in reader.tensors}
    expected = {plan.name: plan.shape for plan in plans}
    wrong = [f"{name} is missing" for name in sorted(expected.keys() - found.keys())]
    wrong += [f"{name} is not part of the model" for name in sorted(found.keys() - expected.keys())]
    wrong += [
        f"{name} has shape {found[name]}, the checkpoint {expected[name]}"
        for name in sorted(found.keys() & expected.keys())
        if found[name] != expected[name]
    ]
    return _check("tensors", wrong, f"{len(expected)} tensors, none missing, none more", {"tensors": len(found)})


def _weights(reader: Any, checkpoint: Checkpoint) -> Check:
    """Check that every weight is finite, and equal to the checkpoint's (16 and 32 bits) or close to it (quantised)."""
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    worst, worst_name = 0.0, ""
    for plan in checkpoint.plans:
        tensor = tensors.get(plan.name)
        if tensor is None or tuple(int(n) for n in reversed(tensor.shape)) != plan.shape:
            continue  # a fault of the tensor set
        squares = np.zeros(2)
        for found, expected in _pairs(tensor, plan, checkpoint):
            if not np.isfinite(found).all():
                return Check("weights", "failed", f"{plan.name} holds values that are not finite")
            if tensor.tensor_type.name in _EXACT_TYPES:
                if not np.array_equal(found, expected):
                    share = float((found != expected).mean())
                    return Check("weights", "failed", f"{plan.name}: {share:.0%} of a block differ from the checkpoint")
            else:
                squares += (
                    np.square(found - expected, dtype=np.float64).sum(),
                    np.square(expected, dtype=np.float64).sum(),
                )
        error = math.sqrt(squares[0] / squares[1]) if squares[1] else 0.0
        if error > worst:
            worst, worst_name = error, plan.name
    if worst > MAX_QUANTIZATION_ERROR:
        return Check("weights", "failed", f"{worst_name} is {worst:.0%} off the checkpoint", {"worst": worst})
    if worst:
        return Check("weights", "passed", f"largest relative error {worst:.3f} ({worst_name})", {"worst": worst})
    return Check("weights", "passed", "bit-exact after the known permutation of q and k", {"worst": 0.0})


def _pairs(
    tensor: Any, plan: TensorPlan, checkpoint: Checkpoint
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Yield (found, expected) in F32, block by block; 16-bit types are rounded as in the file."""
    from gguf.quants import dequantize, quantize

    kind, start = tensor.tensor_type, 0
    for expected in checkpoint.blocks(plan):
        found = dequantize(tensor.data[start : start + len(expected)], kind)
        start += len(expected)
        if kind.name in ("F16", "BF16"):
            expected = dequantize(quantize(expected, kind), kind)
        yield found.reshape(expected.shape), expected


def _tokens(path: Path, reference: Reference) -> list[Check]:
    """Compare token ids, BOS and the chat template: llama.cpp against tokenizer.json."""
    tokenizer, texts = reference.tokenizer, sample_texts()
    chat, no_chat = _conversation(reference)
    try:
        found = engine.tokenize(path, [*texts, chat or ""], add_special=False)
        with_bos = engine.tokenize(path, texts[:1], add_special=True)[0]
    except IclError as error:
        return [Check("tokens", "failed", str(error))]
    expected = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in [*texts, chat or ""]]
    differing = [i for i in range(len(texts)) if found[i] != expected[i]]
    wrong = [
        f"{len(differing)} of {len(texts)} texts differ, first {texts[i][:40]!r}: {_differing(found[i], expected[i])}"
        for i in differing[:1]
    ]
    figures = {"texts": len(texts), "differing": len(differing)}
    checks = [_check("tokens", wrong, f"{len(texts)} texts agree", figures)]
    bos, encoded = reference.vocabulary.bos_id, tokenizer(texts[0])["input_ids"]
    # engine.tokenize drops an EOS at the end on purpose, so only the beginning is compared.
    counts = with_bos.count(bos) if bos is not None else 0, encoded.count(bos) if bos is not None else 0
    detail = f"{counts[0]} BOS before a text, Transformers {counts[1]}"
    same = counts[0] == counts[1] <= 1 and with_bos[:2] == encoded[:2]
    checks.append(_check("bos", [] if same else [detail], detail, {"count": counts[0]}))
    if chat is None:
        return [*checks, Check("chat", "skipped", no_chat)]
    same = found[-1] == expected[-1] and (bos is None or found[-1].count(bos) == expected[-1].count(bos))
    wrong = [] if same else [_differing(found[-1], expected[-1])]
    return [*checks, _check("chat", wrong, "a rendered conversation gives the same tokens")]


def _conversation(reference: Reference) -> tuple[str | None, str]:
    """Return a question rendered by the chat template, or None and the reason."""
    import jinja2

    if not reference.vocabulary.chat_template:
        return None, "the checkpoint has no chat template"
    messages = [{"role": "user", "content": sample_texts()[2]}]
    try:
        return str(reference.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)), ""
    except (jinja2.TemplateError, TypeError, ValueError) as error:
        return None, f"the chat template does not render a question: {error}"


def _differing(found: Sequence[int], expected: Sequence[int]) -> str:
    at = next(
        (i for i, (a, b) in enumerate(zip(found, expected, strict=False)) if a != b), min(len(found), len(expected))
    )
    return f"llama.cpp {list(found[at : at + 3])}, Transformers {list(expected[at : at + 3])} at token {at}"


def next_tokens(path: Path, token_ids: Sequence[int]) -> NDArray[np.int64]:
    """Return the greedy next token [n_positions] of every position. Raises EngineError."""
    tokens: NDArray[np.int64] = engine.prompt_logits(path, token_ids, kv_type="f32").argmax(-1)
    return tokens


def compare_next_tokens(path: Path, token_ids: Sequence[int], expected: NDArray[np.int64]) -> Check:
    """Check the share of positions whose greedy next token is the one of ``expected`` [n_positions]."""
    try:
        found = engine.prompt_logits(path, token_ids, kv_type="f32")
    except IclError as error:
        return Check("next_token", "failed", str(error))
    if not np.isfinite(found).all():
        return Check("next_token", "failed", "logits are not finite")
    agreement = float((found.argmax(-1) == expected).mean())
    status = "passed" if agreement >= MIN_NEXT_TOKEN_AGREEMENT else "failed"
    figures = {"positions": len(found), "agreement": agreement}
    return Check("next_token", status, f"the same at {agreement:.1%} of {len(found)} positions", figures)
