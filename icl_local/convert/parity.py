"""Proof that a GGUF file is the checkpoint it was made from: the parity gate.

Everything the file says is compared with the checkpoint (header, vocabulary, tensors, every weight), then what it
does: llama.cpp's tokens on texts in many languages, BOS, the chat template, and the logits of an F32 file against
Transformers in float32. Where the model does not fit into memory twice as wide as it is stored, the logits are left
out and said so; the weights are then the proof. Nothing here repairs anything.
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
    """One thing the gate looked at: ``status`` passed, failed or skipped; ``detail`` in one line."""

    name: str
    status: str
    detail: str
    figures: Mapping[str, float | int | str] = field(default_factory=dict)


@dataclass(frozen=True)
class GateResult:
    """All checks of one file, in order."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """No check failed."""
        return all(check.status != "failed" for check in self.checks)

    @property
    def reasons(self) -> str:
        """What failed, in one line."""
        return "; ".join(f"{check.name}: {check.detail}" for check in self.checks if check.status == "failed")

    def report(self) -> dict[str, Any]:
        """Return the result as JSON for raw.conversions.gate_report."""
        return {c.name: {"status": c.status, "detail": c.detail, **c.figures} for c in self.checks}


class Reference:
    """The checkpoint as Transformers runs it: its own tokenizer.json and, where memory allows, float32 logits.

    Raises MissingExtra without Transformers and torch, ConversionError where they cannot run the checkpoint.
    """

    def __init__(self, checkpoint: Checkpoint, *, memory_bytes: int | None = None) -> None:
        try:
            import torch  # noqa: F401
            from transformers import PreTrainedTokenizerFast
        except ImportError:
            raise MissingExtra("dpo", "transformers, which the parity gate compares with,") from None
        self.checkpoint = checkpoint
        self.vocabulary = load_vocabulary(checkpoint.tokenizer_folder, n_rows=checkpoint.shape.vocab_size)
        # The class that runs tokenizer.json as it is; LlamaTokenizer rebuilds it and treats a leading space otherwise.
        folder = checkpoint.tokenizer_folder
        self.tokenizer: Any = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
        self._memory_bytes = memory_bytes

    @cached_property
    def sample_ids(self) -> list[int]:
        """Token ids of the sample texts one after the other, at most MAX_POSITIONS or the context length."""
        ids: list[int] = []
        for text in sample_texts():
            ids += self.tokenizer(text, add_special_tokens=not ids)["input_ids"]
        return ids[: min(MAX_POSITIONS, self.checkpoint.shape.context_length)]

    @cached_property
    def why_no_logits(self) -> str | None:
        """Why the model cannot be run in float32 here, None where it can."""
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
        """Logits [n_positions, n_vocab] of the sample texts in float32 (eager attention), None without the memory."""
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
    """The texts of prompts/parity.jsonl: 25 languages, code, spaces, numbers, emoji."""
    return [json.loads(line)["text"] for line in resources.read_text("prompts", "parity.jsonl").splitlines()]


def gate(
    path: Path,
    reference: Reference,
    *,
    logits: Check | None = None,
    expected: NDArray[np.int64] | None = None,
    on_progress: Callable[[str], None] | None = None,
) -> GateResult:
    """Check the file at ``path``. What is wrong with the file is in the result, never raised.

    ``logits``: the check of an F32 sibling where ``path`` itself is of another type. ``expected``: greedy next
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
    """Hyper-parameter keys of a ``llama`` GGUF file and their values."""
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
    """Largest difference between llama.cpp's logits of an F32 file (F32 KV cache) and Transformers' in float32."""
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
    """The widest spread type among the matrices."""
    names: list[str] = [tensor.tensor_type.name for tensor in reader.tensors if len(tensor.shape) > 1]
    return max(set(names), key=names.count)


def _value(reader: Any, key: str) -> Any:
    found = reader.fields.get(key)
    return None if found is None else found.contents()


def _header(reader: Any, reference: Reference) -> Check:
    wrong = []
    for key, wanted in header_fields(reference.checkpoint.shape).items():
        found = _value(reader, key)
        if found is None or not math.isclose(found, wanted, rel_tol=1e-6):
            wrong.append(f"{key} is {found}, the checkpoint says {wanted}")
    scaling = _value(reader, "llama.rope.scaling.type")
    if scaling not in (None, "none"):
        wrong.append(f"llama.rope.scaling.type is {scaling!r}; scaling belongs into rope_freqs.weight")
    return Check("header", "failed" if wrong else "passed", "; ".join(wrong) or "hyper-parameters agree")


def _vocabulary(reader: Any, vocabulary: Vocabulary) -> Check:
    wrong = []
    for key, wanted in vocabulary.fields().items():
        found = _value(reader, key)
        if found != wanted:
            wrong.append(f"{key} {_first_difference(found, wanted)}")
    detail = "; ".join(wrong) or f"{len(vocabulary.tokens)} tokens agree"
    return Check("vocabulary", "failed" if wrong else "passed", detail)


def _first_difference(found: object, wanted: object) -> str:
    if isinstance(found, list) and isinstance(wanted, list):
        if len(found) != len(wanted):
            return f"has {len(found)} entries, the checkpoint {len(wanted)}"
        at = next(i for i, (a, b) in enumerate(zip(found, wanted, strict=True)) if a != b)
        return f"differs at {at}: {found[at]!r}, the checkpoint says {wanted[at]!r}"
    return f"is {str(found)[:80]!r}, the checkpoint says {str(wanted)[:80]!r}"


def _tensor_set(reader: Any, plans: Sequence[TensorPlan]) -> Check:
    found = {tensor.name: tuple(int(n) for n in reversed(tensor.shape)) for tensor in reader.tensors}
    wanted = {plan.name: plan.shape for plan in plans}
    wrong = [f"{name} is missing" for name in sorted(wanted.keys() - found.keys())]
    wrong += [f"{name} is not part of the model" for name in sorted(found.keys() - wanted.keys())]
    wrong += [
        f"{name} has shape {found[name]}, the checkpoint {wanted[name]}"
        for name in sorted(found.keys() & wanted.keys())
        if found[name] != wanted[name]
    ]
    detail = "; ".join(wrong[:3]) or f"{len(wanted)} tensors, none missing, none more"
    return Check("tensors", "failed" if wrong else "passed", detail, {"tensors": len(found)})


def _weights(reader: Any, checkpoint: Checkpoint) -> Check:
    """Every weight: finite, and equal to the checkpoint's (16 and 32 bits) or close to it (quantised)."""
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    worst, worst_name = 0.0, ""
    for plan in checkpoint.plans:
        tensor = tensors.get(plan.name)
        if tensor is None or tuple(int(n) for n in reversed(tensor.shape)) != plan.shape:
            continue  # the tensor set says so
        squares = np.zeros(2)
        for found, wanted in _pairs(tensor, plan, checkpoint):
            if not np.isfinite(found).all():
                return Check("weights", "failed", f"{plan.name} holds values that are not finite")
            if tensor.tensor_type.name in _EXACT_TYPES:
                if not np.array_equal(found, wanted):
                    share = float((found != wanted).mean())
                    return Check("weights", "failed", f"{plan.name}: {share:.0%} of a block differ from the checkpoint")
            else:
                squares += np.square(found - wanted, dtype=np.float64).sum(), np.square(wanted, dtype=np.float64).sum()
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
    """(what the file holds, what it should hold) block by block, F32; 16-bit types rounded as they are written."""
    from gguf.quants import dequantize, quantize

    kind, start = tensor.tensor_type, 0
    for wanted in checkpoint.blocks(plan):
        found = dequantize(tensor.data[start : start + len(wanted)], kind)
        start += len(wanted)
        if kind.name in ("F16", "BF16"):
            wanted = dequantize(quantize(wanted, kind), kind)
        yield found.reshape(wanted.shape), wanted


def _tokens(path: Path, reference: Reference) -> list[Check]:
    """Token ids, BOS and the chat template, llama.cpp against tokenizer.json."""
    tokenizer, texts = reference.tokenizer, sample_texts()
    chat, no_chat = _conversation(reference)
    try:
        plain = engine.tokenize(path, [*texts, chat or ""], add_special=False)
        with_bos = engine.tokenize(path, texts[:1], add_special=True)[0]
    except IclError as error:
        return [Check("tokens", "failed", str(error))]
    wanted = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in [*texts, chat or ""]]
    wrong = [i for i in range(len(texts)) if plain[i] != wanted[i]]
    detail = f"{len(texts)} texts agree"
    if wrong:
        at = wrong[0]
        detail = f"{len(wrong)} of {len(texts)} texts differ, first {texts[at][:40]!r}: "
        detail += _differing(plain[at], wanted[at])
    checks = [Check("tokens", "failed" if wrong else "passed", detail, {"texts": len(texts), "differing": len(wrong)})]
    bos, encoded = reference.vocabulary.bos_id, tokenizer(texts[0])["input_ids"]
    # engine.tokenize drops an EOS at the end on purpose, so only the beginning is compared.
    counts = with_bos.count(bos) if bos is not None else 0, encoded.count(bos) if bos is not None else 0
    same = counts[0] == counts[1] <= 1 and with_bos[:2] == encoded[:2]
    checks.append(
        Check(
            "bos",
            "passed" if same else "failed",
            f"{counts[0]} BOS before a text, Transformers {counts[1]}",
            {"count": counts[0]},
        )
    )
    if chat is None:
        return [*checks, Check("chat", "skipped", no_chat)]
    same = plain[-1] == wanted[-1] and (bos is None or plain[-1].count(bos) == wanted[-1].count(bos))
    detail = "a rendered conversation gives the same tokens" if same else _differing(plain[-1], wanted[-1])
    return [*checks, Check("chat", "passed" if same else "failed", detail)]


def _conversation(reference: Reference) -> tuple[str | None, str]:
    """One question rendered by the chat template, or None and why there is none."""
    import jinja2

    if not reference.vocabulary.chat_template:
        return None, "the checkpoint has no chat template"
    messages = [{"role": "user", "content": sample_texts()[2]}]
    try:
        return str(reference.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)), ""
    except (jinja2.TemplateError, TypeError, ValueError) as error:
        return None, f"the chat template does not render a question: {error}"


def _differing(found: Sequence[int], wanted: Sequence[int]) -> str:
    at = next((i for i, (a, b) in enumerate(zip(found, wanted, strict=False)) if a != b), min(len(found), len(wanted)))
    return f"llama.cpp {list(found[at : at + 3])}, Transformers {list(wanted[at : at + 3])} at token {at}"


def next_tokens(path: Path, token_ids: Sequence[int]) -> NDArray[np.int64]:
    """Greedy next token [n_positions] of every position. Raises EngineError."""
    tokens: NDArray[np.int64] = engine.prompt_logits(path, token_ids, kv_type="f32").argmax(-1)
    return tokens


def compare_next_tokens(path: Path, token_ids: Sequence[int], expected: NDArray[np.int64]) -> Check:
    """Return the share of positions whose greedy next token is the one of ``expected`` [n_positions]."""
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
