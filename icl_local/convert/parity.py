"""The parity gate: proof that a GGUF file is the checkpoint it was made from, by the checks of docs/convert.md.

The proof is either: all weights are the same, or the logits are. A model whose weights cannot be compared and which
cannot be run in float32 is not judged. The gate repairs nothing.
"""

import itertools
import json
import math
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from icl_local import engine, resources
from icl_local.convert import tensors
from icl_local.convert.checkpoint import Checkpoint, read_json, tokenizer_of
from icl_local.exceptions import ConversionError, IclError, ModelError
from icl_local.weights import read_info
from icl_local.weights.gguf_header import Header

MAX_POSITIONS = 512  # of the sample texts whose logits are compared
# of logits, in standard deviations; docs/measurements.md has the values seen. llama.cpp reads GELU from a table in F16.
LOGIT_TOLERANCE = 1e-3
GELU_TOLERANCE = 2e-2
MAX_QUANTIZATION_ERROR = 0.5  # root mean square of the error over that of a tensor; Q2_K stays near 0.3
# Least share of equal next tokens: three quarters of what four models kept at least (docs/measurements.md). Types that
# are not listed ruined all four, since only models trained for them keep their answers, or were not measured.
MIN_AGREEMENT = {
    "F16": 0.75, "BF16": 0.73, "Q8_0": 0.67, "Q6_K": 0.58, "Q5_0": 0.49, "Q5_1": 0.48, "Q5_K_M": 0.49,
    "Q5_K_S": 0.49, "Q4_0": 0.32, "Q4_1": 0.33, "Q4_K_M": 0.35, "Q4_K_S": 0.35, "IQ4_NL": 0.35, "IQ4_XS": 0.36,
    "Q3_K_L": 0.19, "Q3_K_M": 0.19, "Q3_K_S": 0.15, "IQ3_M": 0.17, "IQ3_S": 0.15, "IQ3_XS": 0.15, "Q2_K": 0.05,
}  # fmt: skip
_OTHER_TYPES = 0.2
_SPACE = "\u2581"  # SentencePiece's visible space

# key of the header behind "<architecture>." -> name in Transformers' configuration
_HEADER = {
    "vocab_size": "vocab_size",
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.value_length": "head_dim",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "attention.layer_norm_epsilon": "layer_norm_eps",
    "attention.sliding_window": "sliding_window",
    "attn_logit_softcapping": "attn_logit_softcapping",
    "final_logit_softcapping": "final_logit_softcapping",
    "rope.freq_base": "rope_theta",
}
_REQUIRED = {"context_length", "embedding_length", "block_count", "feed_forward_length", "attention.head_count"}


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


def failures(checks: Sequence[Check]) -> str:
    """Return the checks that failed, with their details, in one line; "" if all passed."""
    return "; ".join(f"{check.name}: {check.detail}" for check in checks if check.status == "failed")


class Reference:
    """The checkpoint in Transformers: its tokenizer and, if memory allows, float32 logits.

    ``sample_ids`` are the tokens of the sample texts in sequence, at most MAX_POSITIONS or the context length;
    ``why_no_logits``: why the model cannot be run in float32, None if it can. ``memory_bytes``: bytes of memory that
    these logits may take, most of those that are free if None.

    Raises MissingExtra without Transformers and torch, ConversionError for a checkpoint that is incomplete or cannot
    be judged.
    """

    def __init__(self, checkpoint: Checkpoint, *, memory_bytes: int | None = None) -> None:
        self.checkpoint = checkpoint
        folder = checkpoint.tokenizer_folder
        self.tokenizer: Any = tokenizer_of(folder)
        self.tokenizer_json = read_json(folder / "tokenizer.json") if (folder / "tokenizer.json").is_file() else {}
        # the checkpoint's tensors beside the model that its configuration describes, without weights
        _, found = self._load(device_map="meta", output_loading_info=True, ignore_mismatched_sizes=True)
        for what, names in (
            ("is missing (an incomplete checkpoint)", found["missing_keys"]),
            ("does not have the shape that config.json says", {name for name, *_ in found["mismatched_keys"]}),
            ("is not part of the model", found["unexpected_keys"]),
        ):
            if names:
                raise ConversionError(f"{self.checkpoint.folder.name}: tensor {min(names)} {what}; {len(names)} in all")
        ids: list[int] = []
        for text in sample_texts():
            ids += self.tokenizer(text, add_special_tokens=not ids)["input_ids"]
        self.sample_ids = ids[: min(MAX_POSITIONS, checkpoint.config.max_position_embeddings)]
        needed = 4 * (checkpoint.parameters + 3 * len(self.sample_ids) * checkpoint.config.vocab_size)
        free = int(engine.available_memory() * 0.9) if memory_bytes is None else memory_bytes
        too_large = f"float32 needs {needed / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are free"
        self.why_no_logits = too_large if needed > free else None

    def _load(self, **options: Any) -> Any:
        from transformers.utils import logging

        logging.set_verbosity_error()
        try:
            return self.checkpoint.model(attn_implementation="eager", **options)
        except ConversionError as error:
            raise ConversionError(f"the gate cannot judge this model: {error}") from error

    @cached_property
    def logits(self) -> NDArray[np.float32] | None:
        """Return logits [n_positions, n_vocab] in float32 (eager attention); None without memory."""
        if self.why_no_logits:
            return None
        import torch

        model = self._load()
        with torch.inference_mode():
            logits: NDArray[np.float32] = model(torch.tensor([self.sample_ids])).logits[0].float().numpy()
        return logits


def sample_texts() -> list[str]:
    """Return the texts of prompts/parity.jsonl: 25 languages, code, spaces, numbers, emoji."""
    return [json.loads(line)["text"] for line in resources.read_text("prompts", "parity.jsonl").splitlines()]


def gate(
    path: Path,
    reference: Reference,
    *,
    wide: Path | None = None,
    on_progress: Callable[[str], None] = lambda text: None,
) -> list[Check]:
    """Check the file at ``path``. Faults of the file are in the checks and never raised.

    ``wide``: the file of 16 or 32 bits that ``path`` was made from; ``path`` itself by default. Logits are compared
    if it is of type F32, next tokens if ``path`` is of another type.
    """
    wide = wide or path
    try:
        file_type, wide_type = read_info(path).quantization, read_info(wide).quantization
    except ModelError as error:
        return [Check("file", "failed", str(error))]
    header = Header(path)
    on_progress("header, vocabulary and tensors")
    checks = [_header(header, reference), _vocabulary(header, reference), _tensor_set(header, reference.checkpoint)]
    on_progress("weights")
    checks.append(_weights(header, reference.checkpoint))
    on_progress("tokens")
    checks += _tokens(path, reference)
    on_progress("logits")
    if wide_type == "F32":
        checks.append(check_logits(wide, reference))
    else:
        checks.append(Check("logits", "skipped", reference.why_no_logits or "only those of an F32 file are compared"))
    if file_type != "F32":
        on_progress("next tokens")
        expected = reference.logits
        if expected is None and wide != path:
            expected = engine.prompt_logits(wide, reference.sample_ids)
        checks.append(compare_next_tokens(path, reference.sample_ids, expected))
    proofs = [check for check in checks if check.name in ("weights", "logits")]
    if all(check.status == "skipped" for check in proofs):
        reasons = "; ".join(check.detail for check in proofs)
        checks.append(Check("proof", "failed", f"the gate cannot judge this model ({reasons}); use --no-gate"))
    return checks


def check_logits(path: Path, reference: Reference) -> Check:
    """Compare llama.cpp's logits of an F32 file (F32 KV cache) with Transformers' in float32."""
    if reference.logits is None:
        return Check("logits", "skipped", str(reference.why_no_logits))
    try:
        found = engine.prompt_logits(path, reference.sample_ids)
    except IclError as error:
        return Check("logits", "failed", str(error))
    expected = reference.logits[:, : found.shape[1]]
    difference = float(np.abs(found - expected).max())
    relative = difference / float(expected.std() or 1.0)
    agreement = float((found.argmax(-1) == expected.argmax(-1)).mean())
    figures = {"positions": len(found), "max_difference": difference, "relative": relative, "agreement": agreement}
    config = reference.checkpoint.config
    activation = str(getattr(config, "hidden_activation", None) or getattr(config, "hidden_act", ""))
    tolerance = GELU_TOLERANCE if activation.startswith("gelu") else LOGIT_TOLERANCE
    detail = f"largest difference {difference:.2g} ({relative:.2g} standard deviations) on {len(found)} positions"
    return _check("logits", [] if relative <= tolerance else [detail], detail, figures)  # a NaN compares false


def _header(header: Header, reference: Reference) -> Check:
    architecture, config = header.value("general.architecture"), reference.checkpoint.config
    rope = getattr(config, "rope_parameters", None) or {}
    stated = {**config.to_dict(), **rope.get("full_attention", rope)}
    wrong = []
    for key, name in _HEADER.items():
        found, expected = header.value(f"{architecture}.{key}"), stated.get(name)
        if expected is None or (found is None and key not in _REQUIRED):
            continue
        if found is None or not math.isclose(found, expected, rel_tol=1e-6):
            wrong.append(f"{architecture}.{key} is {found}, the checkpoint says {expected}")
    scaling = header.value(f"{architecture}.rope.scaling.type") or "none"
    if tensors.rope_type(config) in ("default", "llama3") and scaling != "none":
        wrong.append(f"{architecture}.rope.scaling.type is {scaling!r}, the checkpoint has none")
    return _check("header", wrong, "hyper-parameters agree")


def _vocabulary(header: Header, reference: Reference) -> Check:
    """Compare tokens, merges, the order of scores, special tokens and the chat template with the tokenizer's."""
    tokenizer, model = reference.tokenizer, reference.tokenizer_json.get("model", {})
    found = [token.replace(_SPACE, " ") for token in header.value("tokenizer.ggml.tokens")]
    known = {i: token.replace(_SPACE, " ") for token, i in tokenizer.get_vocab().items()}
    wrong = [
        f"token {i} is {found[i] if i < len(found) else None!r}, the tokenizer says {token!r}"
        for i, token in sorted(known.items())
        if i >= len(found) or found[i] != token
    ]
    merges = [tuple(pair.split(" ", 1)) if isinstance(pair, str) else tuple(pair) for pair in model.get("merges", [])]
    written = header.value("tokenizer.ggml.merges")
    if written is not None and written != [" ".join(part.replace(" ", "\u0120") for part in pair) for pair in merges]:
        wrong.append("the merges are not the tokenizer's")
    scores = header.value("tokenizer.ggml.scores")
    if scores is not None and merges:
        ids = dict.fromkeys(model["vocab"].get("".join(pair)) for pair in merges)
        ranked = [scores[i] for i in ids if i is not None]
        if any(a < b for a, b in itertools.pairwise(ranked)):
            wrong.append("the scores do not order the pieces as the tokenizer's merges do")
    for key, name in (("bos", "bos"), ("eos", "eos"), ("unknown", "unk"), ("padding", "pad")):
        is_id, expected = header.value(f"tokenizer.ggml.{key}_token_id"), getattr(tokenizer, f"{name}_token_id")
        if None not in (is_id, expected) and is_id != expected:
            wrong.append(f"{key}_token_id is {is_id}, the tokenizer says {expected}")
    template = header.value("tokenizer.chat_template") or None
    if template != (tokenizer.chat_template or None) and isinstance(tokenizer.chat_template, str | None):
        wrong.append(f"the chat template is {str(template)[:60]!r}, not the tokenizer's")
    return _check("vocabulary", wrong, f"{len(known)} tokens agree")


def _tensor_set(header: Header, checkpoint: Checkpoint) -> Check:
    """Compare names and shapes with the checkpoint's, where gguf knows all names."""
    architecture = header.value("general.architecture")
    found = {tensor.name: tensor.shape[::-1] for tensor in header.tensors}
    names = tensors.written_names(architecture, checkpoint)
    if unknown := [name for name in names if names[name] == name]:
        return Check("tensors", "skipped", f"gguf does not know {unknown[0]}")
    expected = {name: checkpoint.shapes[source] for name, source in names.items()}
    expected |= {name: factors.shape for name, factors in tensors.rope_factors(checkpoint.config).items()}
    if checkpoint.config.tie_word_embeddings and "output.weight" not in found:
        expected.pop("output.weight", None)
    wrong = [f"{name} is missing" for name in sorted(expected.keys() - found.keys())]
    wrong += [f"{name} is not part of the model" for name in sorted(found.keys() - expected.keys())]
    wrong += [
        f"{name} has shape {found[name]}, the checkpoint {expected[name]}"
        for name in sorted(found.keys() & expected.keys())
        if found[name] != expected[name]
    ]
    return _check("tensors", wrong, f"{len(found)} tensors, none missing, none more", {"tensors": len(found)})


def _weights(header: Header, checkpoint: Checkpoint) -> Check:
    """Check that every weight is finite, and equal to the checkpoint's (16 and 32 bits) or close to it (quantised)."""
    architecture = header.value("general.architecture")
    if architecture not in tensors.CHANGED:
        return Check("weights", "skipped", f"weights of architecture {architecture} cannot be compared one by one")
    names, factors = tensors.written_names(architecture, checkpoint), tensors.rope_factors(checkpoint.config)
    worst, worst_name = 0.0, ""
    for tensor in header.tensors:
        if tensor.name in factors and not tensors.holds(header, tensor, factors[tensor.name]):
            return Check("weights", "failed", f"{tensor.name} does not hold the checkpoint's rotary scaling")
        source = names.get(tensor.name)
        if source is None or checkpoint.shapes[source] != tensor.shape[::-1]:
            continue  # a fault of the tensor set
        squares = np.zeros(2)
        for found, expected in tensors.pairs(header, tensor, architecture, source, checkpoint):
            if not np.isfinite(found).all():
                return Check("weights", "failed", f"{tensor.name} holds values that are not finite")
            if tensor.type in tensors.EXACT_TYPES:
                if not np.array_equal(found, expected):
                    share = float((found != expected).mean())
                    return Check("weights", "failed", f"{tensor.name}: {share:.0%} of a block are not the checkpoint's")
            else:
                error = np.square(found - expected, dtype=np.float64).sum()
                squares += (error, np.square(expected, dtype=np.float64).sum())
        relative = math.sqrt(squares[0] / squares[1]) if squares[1] else 0.0
        if relative > worst:
            worst, worst_name = relative, tensor.name
    wrong = [f"{worst_name} is {worst:.0%} off the checkpoint"] if worst > MAX_QUANTIZATION_ERROR else []
    right = f"largest relative error {worst:.3f} ({worst_name})" if worst else "the same bits as in the checkpoint"
    return _check("weights", wrong, right, {"worst": worst})


def _tokens(path: Path, reference: Reference) -> list[Check]:
    """Compare token ids, BOS and the chat template: llama.cpp against the tokenizer."""
    tokenizer, texts = reference.tokenizer, sample_texts()
    is_nfc = reference.tokenizer_json.get("normalizer") == {"type": "NFC"}
    if is_nfc:  # llama.cpp has no normalizers: these tokenizers agree on texts that are in NFC
        texts = [unicodedata.normalize("NFC", text) for text in texts]
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
    checks = [_check("tokens", wrong, f"{len(texts)} texts{' in NFC' * is_nfc} agree", figures)]
    bos, encoded = tokenizer.bos_token_id, tokenizer(texts[0])["input_ids"]
    # engine.tokenize drops an EOS at the end on purpose, so only the beginning is compared.
    counts = with_bos.count(bos) if bos is not None else 0, encoded.count(bos) if bos is not None else 0
    detail = f"{counts[0]} BOS before a text, Transformers {counts[1]}"
    same = counts[0] == counts[1] <= 1 and with_bos[:2] == encoded[:2]
    checks.append(_check("bos", [] if same else [detail], detail, {"count": counts[0]}))
    if chat is None:
        return [*checks, Check("chat", "skipped", no_chat)]
    wrong = [] if found[-1] == expected[-1] else [_differing(found[-1], expected[-1])]
    return [*checks, _check("chat", wrong, "a rendered conversation gives the same tokens")]


def _conversation(reference: Reference) -> tuple[str | None, str]:
    """Return a question rendered by the chat template, or None and the reason."""
    import jinja2

    if not reference.tokenizer.chat_template:
        return None, "the checkpoint has no chat template"
    messages = [{"role": "user", "content": sample_texts()[2]}]
    try:
        return str(reference.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)), ""
    except (jinja2.TemplateError, TypeError, ValueError) as error:
        return None, f"the chat template does not render a question: {error}"


def _differing(found: list[int], expected: list[int]) -> str:
    at = next(i for i, (a, b) in enumerate(itertools.zip_longest(found, expected)) if a != b)
    return f"llama.cpp {found[at : at + 3]}, Transformers {expected[at : at + 3]} at token {at}"


def compare_next_tokens(path: Path, token_ids: Sequence[int], expected: NDArray[np.float32] | None) -> Check:
    """Compare greedy next tokens, and the distributions of the next token, with logits [n_positions, n_vocab].

    Fails below the type's share in MIN_AGREEMENT.
    """
    try:
        found = engine.prompt_logits(path, token_ids)
    except IclError as error:
        return Check("next_token", "failed", str(error))
    if not np.isfinite(found).all():
        return Check("next_token", "failed", "logits are not finite")
    if expected is None:
        return Check("next_token", "skipped", "the model runs; there is nothing to compare its next tokens with")
    expected, floor = expected[:, : found.shape[1]], MIN_AGREEMENT.get(read_info(path).quantization, _OTHER_TYPES)
    agreement = float((found.argmax(-1) == expected.argmax(-1)).mean())
    divergence = float(np.mean([kl_divergence(*rows) for rows in zip(expected, found, strict=True)]))
    figures = {"positions": len(found), "agreement": agreement, "floor": floor, "kl_divergence": divergence}
    detail = f"the same at {agreement:.1%} of {len(found)} positions, KL divergence {divergence:.2g}"
    wrong = [f"{detail}; at least {floor:.0%} is usual for the type"] if agreement < floor else []
    return _check("next_token", wrong, detail, figures)


def compare_files(path: Path, source: Path) -> Check:
    """Compare the next tokens of a file with those of the file it was made from. Raises EngineError for ``source``."""
    read_info(path)
    ids = [token for found in engine.tokenize(source, sample_texts(), add_special=False) for token in found]
    ids = ids[: min(MAX_POSITIONS, read_info(source).context_length)]
    return compare_next_tokens(path, ids, engine.prompt_logits(source, ids))


def kl_divergence(expected: NDArray[np.float32], found: NDArray[np.float32]) -> float:
    """Return the KL divergence (nats) of the next token's distribution from that of the logits ``expected``."""
    p, q = (logits.astype(np.float64) - np.logaddexp.reduce(logits, dtype=np.float64) for logits in (expected, found))
    return float(np.sum(np.exp(p) * (p - q)))
