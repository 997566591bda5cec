"""What a GGUF file is, and whether llama.cpp may see it: strict checks in Python, no llama.cpp involved.

llama.cpp aborts the whole process (GGML_ASSERT) on a number of malformed headers. ``read_info`` refuses those first,
with a message. For architecture ``llama`` every hyperparameter and tensor that its loader and graph rely on is
checked (llama.cpp: gguf.cpp, llama-model.cpp, llama-vocab.cpp, models/llama.cpp); for other architectures the parts
that all have in common. Weights are not read: that the bytes are the right ones is the checksum's business.
"""

from __future__ import annotations

import math
import mmap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from icl_local.exceptions import ModelError
from icl_local.weights.gguf_header import Header, HeaderReader, LongArray, TensorEntry

MAX_LAYERS = 512  # LLAMA_MAX_LAYERS
MAX_EXPERTS = 1024  # LLAMA_MAX_EXPERTS
MAX_ELEMENTS = 1 << 62
ROPE_SCALING = ("none", "linear", "yarn", "longrope")
NO_TOKENIZER = ("no_vocab", "none")
# Whether llama.cpp puts BOS first where the file does not say (llama_vocab::impl::load).
BOS_BY_MODEL = {"llama": True, "bert": True}
BOS_BY_PRE = (
    "llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano",
    "tekken", "chameleon",
)  # fmt: skip
DEFAULT_BOS = {"llama": 1, "bert": 101}
DEFAULT_EOS = {"llama": 2, "t5": 1}
# Types of intermediate results and of plain numbers: no matrix of a model can have them.
NOT_FOR_WEIGHTS = ("I8", "I16", "I32", "I64", "F64", "Q8_1", "Q8_K")


@dataclass(frozen=True)
class GgufInfo:
    """What a GGUF file's header says. ``parameters`` counts elements of all tensors, ``bytes`` is the file's size.

    ``quantization`` is the file's main type as llama.cpp names it (Q4_K_M, F16). ``head_count`` and
    ``head_count_kv`` are the largest over the layers, 0 for a model without attention; ``head_dim`` is a key's
    length. ``metadata`` holds every key; long arrays are only counted (``LongArray``).
    """

    path: Path
    architecture: str
    name: str | None
    quantization: str
    parameters: int
    context_length: int
    vocab_size: int
    embedding_length: int
    block_count: int
    head_count: int
    head_count_kv: int
    head_dim: int
    tokenizer_model: str | None
    chat_template: str | None
    add_bos: bool
    bos_token: str | None
    eos_token: str | None
    bytes: int
    metadata: Mapping[str, object]


def read_info(path: Path) -> GgufInfo:
    """Check the header of ``path`` and return what it says.

    Raises ModelError, and nothing else: not a GGUF file, truncated (with the bytes missing), one part of a split
    model, absurd counts, keys or tensors twice, unknown types, no tokenizer, or shapes that do not fit together.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise ModelError(f"{path}: not a file; name a .gguf file")
        if size == 0:
            raise ModelError(f"{path}: the file is empty; download or convert it again")
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            reader = HeaderReader(path, data, size)
            return _Check(path, size, reader, reader.read()).info()
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:  # a path with NUL, or a file that cannot be mapped, is a ValueError
        raise ModelError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error


class _Check:
    """One header under examination; every method raises ModelError with the file's name in front."""

    def __init__(self, path: Path, size: int, reader: HeaderReader, header: Header) -> None:
        self.path = path
        self.size = size
        self.reader = reader
        self.header = header
        self.metadata = header.metadata
        self.tensors = {tensor.name: tensor for tensor in header.tensors}
        self.type_names: dict[str, str] = {}

    def info(self) -> GgufInfo:
        self._refuse_split()
        architecture = self._text("general.architecture")
        self._check_tensors()
        tokenizer_model, add_bos, bos, eos, vocab_size = self._tokenizer()
        shape = _Shape(self, architecture, vocab_size)
        if architecture == "llama":
            shape.check_llama()
        name, template = self.metadata.get("general.name"), self.metadata.get("tokenizer.chat_template")
        return GgufInfo(
            path=self.path,
            architecture=architecture,
            name=name if isinstance(name, str) and name else None,
            quantization=self._quantization(),
            parameters=sum(math.prod(tensor.shape) for tensor in self.header.tensors),
            context_length=shape.n_ctx,
            vocab_size=vocab_size,
            embedding_length=shape.n_embd,
            block_count=shape.n_layer,
            head_count=max(shape.n_head),
            head_count_kv=max(shape.n_head_kv),
            head_dim=shape.head_dim,
            tokenizer_model=tokenizer_model,
            chat_template=template if isinstance(template, str) and template.strip() else None,
            add_bos=add_bos,
            bos_token=bos,
            eos_token=eos,
            bytes=self.size,
            metadata=self.metadata,
        )

    def bad(self, message: str) -> ModelError:
        return ModelError(f"{self.path}: {message}")

    def _text(self, key: str) -> str:
        value = self.metadata.get(key)
        if not isinstance(value, str) or not value:
            raise self.bad(f"not a usable model: key {key!r} is {'missing' if value is None else 'not a text'}")
        return value

    def integer(self, key: str, *, low: int = 0, high: int = 1 << 31, default: int | None = None) -> int:
        """The integer under ``key`` within [low, high], or ``default`` where the key is absent."""
        value = self.metadata.get(key, default)
        if value is None:
            raise self.bad(f"not a usable model: key {key!r} is missing")
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self.bad(f"not a usable model: {key} is {value}, outside {low} to {high}")
        return value

    def _refuse_split(self) -> None:
        count = self.metadata.get("split.count", 0)
        if isinstance(count, int) and count > 1:
            raise self.bad(
                f"one part of a model split into {count} files; "
                "join them first: llama-gguf-split --merge FIRST OUT.gguf"
            )

    def _check_tensors(self) -> None:
        """Known types, whole blocks, no name twice, and bytes that follow each other up to the file's end."""
        from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

        if not self.header.tensors:
            raise self.bad("holds no tensors (a vocabulary-only file?); fetch or convert the whole model")
        if len(self.tensors) < len(self.header.tensors):
            twice = next(n for n, k in Counter(t.name for t in self.header.tensors).items() if k > 1)
            raise self.bad(f"not a usable model: tensor {twice!r} is there twice")
        alignment = self.header.alignment
        expected = 0
        end = self.header.data_start
        for tensor in self.header.tensors:
            try:
                kind = GGMLQuantizationType(tensor.type)
            except ValueError:
                raise self.bad(
                    f"tensor {tensor.name!r} has type {tensor.type}, which the gguf package does not know; "
                    "update gguf and llama-cpp-python, or fetch another quantization"
                ) from None
            block, block_bytes = GGML_QUANT_SIZES[kind]
            elements = math.prod(tensor.shape)
            if tensor.shape[0] % block or not 0 < elements < MAX_ELEMENTS:
                raise self.bad(f"not a usable model: tensor {tensor.name!r} has shape {tensor.shape} in {kind.name}")
            if tensor.offset != expected:
                raise self.bad(
                    f"not a usable model: tensor {tensor.name!r} is said to lie at {tensor.offset} and not {expected}"
                )
            self.type_names[tensor.name] = kind.name
            end = self.header.data_start + expected + elements // block * block_bytes
            expected = -(-(expected + elements // block * block_bytes) // alignment) * alignment
        if end > self.size:
            raise self.bad(f"truncated: {end - self.size:,} of {end:,} bytes are missing; download or convert it again")

    def _quantization(self) -> str:
        """llama.cpp's name of the file type, or the type that holds most of the weights."""
        from gguf.constants import LlamaFileType

        file_type = self.metadata.get("general.file_type")
        if isinstance(file_type, int) and file_type & ~LlamaFileType.GUESSED in set(LlamaFileType):
            name: str = LlamaFileType(file_type & ~LlamaFileType.GUESSED).name
            return name.removeprefix("ALL_").removeprefix("MOSTLY_").removesuffix("_MOE")
        elements: Counter[str] = Counter()
        for tensor in self.header.tensors:
            elements[self.type_names[tensor.name]] += math.prod(tensor.shape)
        return elements.most_common(1)[0][0]

    def _tokenizer(self) -> tuple[str, bool, str | None, str | None, int]:
        """(model, add_bos, bos text, eos text, number of tokens)."""
        words = self.header.vocabulary
        model = self.metadata.get("tokenizer.ggml.model")
        if not isinstance(model, str) or model in NO_TOKENIZER or words is None or not words.starts:
            raise self.bad("holds no tokenizer; fetch or convert the model with its tokenizer files")
        if words.repeated is not None:
            raise self.bad(f"not a usable model: token {words.repeated!r} is in the vocabulary twice")
        n_tokens = len(words.starts)
        if model == "gpt2" and not _is_strings(self.metadata.get("tokenizer.ggml.merges")):
            raise self.bad("not a usable model: its byte-level BPE tokenizer has no merges")
        for key in ("tokenizer.ggml.scores", "tokenizer.ggml.token_type"):
            if key in self.metadata and _length(self.metadata[key]) < n_tokens:
                raise self.bad(f"not a usable model: {key} is shorter than the {n_tokens} tokens")
        pre = self.metadata.get("tokenizer.ggml.pre")
        add_bos = self.metadata.get("tokenizer.ggml.add_bos_token")
        if not isinstance(add_bos, bool):
            add_bos = BOS_BY_MODEL.get(model, False) or (model == "gpt2" and pre in BOS_BY_PRE)
        bos = self._special("bos_token_id", DEFAULT_BOS.get(model))
        if add_bos and bos is None:
            raise self.bad("not a usable model: it wants a BOS token first and does not say which")
        return model, add_bos, bos, self._special("eos_token_id", DEFAULT_EOS.get(model)), n_tokens

    def _special(self, key: str, default: int | None) -> str | None:
        for index in (self.metadata.get(f"tokenizer.ggml.{key}"), default):
            if isinstance(index, int) and (text := self.reader.token(index)) is not None:
                return text
        return None


class _Shape:
    """The hyperparameters of one file, per layer where the format allows it."""

    def __init__(self, check: _Check, architecture: str, n_vocab: int) -> None:
        self.check = check
        self.prefix = architecture + "."
        self.n_vocab = n_vocab
        self.n_layer = check.integer(self.prefix + "block_count", low=1, high=MAX_LAYERS)
        self.n_embd = check.integer(self.prefix + "embedding_length", low=1)
        self.n_ctx = check.integer(self.prefix + "context_length", low=1)
        self.n_head = self._per_layer("attention.head_count", default=0)
        self.n_head_kv = self._per_layer("attention.head_count_kv", default=None) or self.n_head
        heads = max(self.n_head)
        n_even = self.n_embd // heads if heads else 0
        self.head_dim = check.integer(self.prefix + "attention.key_length", default=n_even)
        check.integer(self.prefix + "nextn_predict_layers", high=self.n_layer, default=0)
        self._check_experts()
        scaling = check.metadata.get(self.prefix + "rope.scaling.type", "linear")
        if scaling not in ROPE_SCALING:
            raise check.bad(f"not a usable model: rope.scaling.type is {scaling!r}, not in {ROPE_SCALING}")

    def _per_layer(self, key: str, *, default: int | None) -> tuple[int, ...]:
        """One number for all layers or an array with one for each; () where absent without default."""
        value = self.check.metadata.get(self.prefix + key, default)
        if value is None:
            return ()
        values = (value,) * self.n_layer if isinstance(value, int) else value
        if not isinstance(values, tuple) or len(values) != self.n_layer:
            raise self.check.bad(f"not a usable model: {key} does not fit the {self.n_layer} layers")
        if not all(isinstance(v, int) and not isinstance(v, bool) and 0 <= v <= 1 << 20 for v in values):
            raise self.check.bad(f"not a usable model: {key} is {value}")
        return values

    def _check_experts(self) -> None:
        self.n_expert = self.check.integer(self.prefix + "expert_count", high=MAX_EXPERTS, default=0)
        used = self._per_layer("expert_used_count", default=0)
        groups = self.check.integer(self.prefix + "expert_group_count", default=0)
        group_used = self.check.integer(self.prefix + "expert_group_used_count", default=0)
        fits = (
            0 < max(used) <= self.n_expert
            and (groups < self.n_expert)
            and (groups <= 1 or (self.n_expert % groups == 0 and 0 < group_used < groups))
            if self.n_expert
            else max(used) == 0 and groups == 0
        )
        if not fits:
            raise self.check.bad(f"not a usable model: expert counts do not fit together ({self.n_expert} experts)")

    def check_llama(self) -> None:
        """Everything llama.cpp's llama loader and graph take for granted."""
        bad = self.check.bad
        heads_fit = all(kv and heads and heads % kv == 0 for heads, kv in zip(self.n_head, self.n_head_kv, strict=True))
        given = self.prefix + "attention.key_length" in self.check.metadata
        if not heads_fit or (not given and self.n_embd % self.n_head[0]):
            raise bad(
                f"not a usable model: {self.n_head[0]} attention heads ({self.n_head_kv[0]} for keys) do not divide "
                f"embedding_length {self.n_embd} or each other"
            )
        n_value = self.check.integer(self.prefix + "attention.value_length", default=self.head_dim)
        n_rot = self.check.integer(self.prefix + "rope.dimension_count", default=self.head_dim)
        if not (self.head_dim == n_value == n_rot > 0) or n_rot % 2:
            raise bad(f"not a usable model: head sizes {self.head_dim} (key), {n_value} (value), {n_rot} (rope) differ")
        self._real("attention.layer_norm_rms_epsilon", required=True)
        self._real("rope.freq_base", required=False, low=1e-6)
        n_ff = self._per_layer("feed_forward_length", default=None)
        if not n_ff or not all(n_ff):
            raise bad("not a usable model: key 'llama.feed_forward_length' is missing or zero")
        self._tensor("token_embd.weight", self.n_embd, self.n_vocab)
        self._tensor("output_norm.weight", self.n_embd)
        self._tensor("output.weight", self.n_embd, self.n_vocab, required=False)
        for layer, (heads, kv, ff) in enumerate(zip(self.n_head, self.n_head_kv, n_ff, strict=True)):
            self._check_layer(f"blk.{layer}.", self.head_dim * heads, self.head_dim * kv, ff)
        for tensor in self.check.header.tensors:
            kind = self.check.type_names[tensor.name]
            if kind in NOT_FOR_WEIGHTS or (len(tensor.shape) == 1 and kind != "F32"):
                raise bad(f"not a usable model: tensor {tensor.name!r} is of type {kind}")

    def _check_layer(self, block: str, n_q: int, n_kv: int, n_ff: int) -> None:
        self._tensor(block + "attn_norm.weight", self.n_embd)
        self._tensor(block + "ffn_norm.weight", self.n_embd)
        if block + "attn_qkv.weight" in self.check.tensors:
            self._tensor(block + "attn_qkv.weight", self.n_embd, n_q + 2 * n_kv)
        else:
            self._tensor(block + "attn_q.weight", self.n_embd, n_q)
            self._tensor(block + "attn_k.weight", self.n_embd, n_kv)
            self._tensor(block + "attn_v.weight", self.n_embd, n_kv)
        self._tensor(block + "attn_output.weight", n_q, self.n_embd)
        if not self.n_expert:
            self._tensor(block + "ffn_gate.weight", self.n_embd, n_ff)
            self._tensor(block + "ffn_up.weight", self.n_embd, n_ff)
            self._tensor(block + "ffn_down.weight", n_ff, self.n_embd)
        self._tensor("rope_freqs.weight", self.head_dim // 2, required=False)

    def _tensor(self, name: str, *shape: int, required: bool = True) -> TensorEntry | None:
        tensor = self.check.tensors.get(name)
        if tensor is None and required:
            raise self.check.bad(f"not a usable model: tensor {name!r} is missing; convert the model again")
        if tensor is not None and _trimmed(tensor.shape) != _trimmed(shape):
            raise self.check.bad(
                f"not a usable model: tensor {name!r} has shape {tensor.shape}, the header's numbers ask for {shape}"
            )
        return tensor

    def _real(self, key: str, *, required: bool, low: float = 0.0) -> None:
        value = self.check.metadata.get(self.prefix + key)
        if value is None and not required:
            return
        if not isinstance(value, float) or not low <= value < math.inf:
            raise self.check.bad(f"not a usable model: {key} is {'missing' if value is None else value}")


def _trimmed(shape: Sequence[int]) -> tuple[int, ...]:
    """A shape without its trailing ones, which the format may leave out."""
    end = len(shape)
    while end > 1 and shape[end - 1] == 1:
        end -= 1
    return tuple(shape[:end])


def _length(value: object) -> int:
    if isinstance(value, LongArray):
        return value.length
    return len(value) if isinstance(value, tuple) else 0


def _is_strings(value: object) -> bool:
    return isinstance(value, LongArray) and value.type == "string"
