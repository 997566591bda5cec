"""The facts that a GGUF file's header states, read in Python; no llama.cpp involved.

Whether llama.cpp can run the model is not checked: on some damaged files it aborts, which ends its own process and not
the command (see engine/worker.py). Weights are not read: the checksum shows whether they are the right ones.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from icl_local.exceptions import ModelError
from icl_local.weights.gguf_header import TOKENS_KEY, Header

MAX_LAYERS = 512  # LLAMA_MAX_LAYERS
MAX_HEADS = 1 << 16
OTHER_TYPES = {
    "mmproj": "a projector for images or sound",
    "adapter": "a LoRA adapter",
    "imatrix": "an importance matrix",
}
NO_TOKENIZER = ("no_vocab", "none", "")
# The tokenizers for which llama.cpp puts BOS first if the file does not say (llama_vocab::impl::load).
BOS_BY_MODEL = ("llama", "bert")
BOS_BY_PRE = (
    "llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano",
    "tekken", "chameleon",
)  # fmt: skip
DEFAULT_BOS = {"llama": 1, "bert": 101}
DEFAULT_EOS = {"llama": 2, "t5": 1}


class GgufInfo:
    """The facts of a GGUF file's header, which is read when the object is made (see ``read_info`` for its errors).

    ``parameters`` counts elements of all tensors, ``bytes`` is the file's size.
    ``quantization`` is the file's main type as llama.cpp names it (Q4_K_M, F16). ``head_count`` and
    ``head_count_kv`` are the largest over the layers, 0 for a model without attention; ``head_dim`` is a key's
    length. ``vocab_sha256`` is a digest of the tokenizer: model, pre-tokenizer, token texts, merges, scores, space
    prefix. ``metadata`` holds every key; long arrays are only counted (``LongArray``).
    """

    def __init__(self, path: Path) -> None:
        header = _Facts(path)
        header.refuse_other_purposes()
        header.refuse_infinite_numbers()
        architecture = header.text_of("general.architecture")
        if architecture is None:
            header.fail("not a usable model: key 'general.architecture' is missing or not a text")
        elements = header.elements_by_type()
        prefix = architecture + "."
        self.path, self.bytes = path, header.size
        self.metadata: Mapping[str, object] = header.metadata
        self.architecture = architecture
        self.name = header.text_of("general.name")
        self.quantization = header.quantization(elements)
        self.parameters = elements.total()
        self.tokenizer_model = header.text_of("tokenizer.ggml.model") or ""
        if self.tokenizer_model in NO_TOKENIZER or not header.n_tokens:
            header.fail("holds no tokenizer; fetch or convert the model with its tokenizer files")
        self.vocab_size, self.vocab_sha256 = header.n_tokens, header.vocab_sha256
        template = header.text_of("tokenizer.chat_template") or ""
        self.chat_template = template if template.strip() else None
        self.add_bos = header.add_bos(self.tokenizer_model)
        self.bos_token = header.special_token("bos_token_id", DEFAULT_BOS.get(self.tokenizer_model))
        self.eos_token = header.special_token("eos_token_id", DEFAULT_EOS.get(self.tokenizer_model))
        if self.add_bos and self.bos_token is None:
            header.fail("not a usable model: it asks for a BOS token and does not say which")
        self.block_count = header.integer(prefix + "block_count", low=1, high=MAX_LAYERS)
        self.embedding_length = header.integer(prefix + "embedding_length", low=1)
        self.head_count = header.integer(prefix + "attention.head_count", high=MAX_HEADS, default=0, by_layer=True)
        self.context_length = header.integer(prefix + "context_length", low=1)
        kv_heads = prefix + "attention.head_count_kv"
        self.head_count_kv = header.integer(kv_heads, high=MAX_HEADS, default=self.head_count, by_layer=True)
        even = self.embedding_length // self.head_count if self.head_count else 0
        self.head_dim = header.integer(prefix + "attention.key_length", default=even, high=1 << 20)


def read_info(path: Path) -> GgufInfo:
    """Read the header of ``path``.

    Raises ModelError, and nothing else, for a file that is not GGUF, truncated, damaged, one part of a split model, for
    another purpose (adapter, projector, embeddings), or without what every command needs.
    """
    path = Path(path)
    try:
        if path.exists() and not path.is_file():
            raise ModelError(f"{path}: not a file; name a .gguf file")
        if path.stat().st_size == 0:
            raise ModelError(f"{path}: the file is empty; download or convert it again")
        return GgufInfo(path)
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:  # a path with NUL, or a file that cannot be mapped, is a ValueError
        raise ModelError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error


def require_same_tokens(a: Path, b: Path, ids: Iterable[int]) -> None:
    """Raise ModelError unless ``a`` and ``b`` cut texts by the same rules and have the same tokens at ``ids``."""
    one, other = Header(a), Header(b)
    for key in sorted((one.vocabulary.keys() | other.vocabulary.keys()) - {TOKENS_KEY}):
        if _rule(one, key) != _rule(other, key):
            raise ModelError(f"{b.name} has another tokenizer than {a.name} ({key}); give a file of one family")
    for token in sorted(ids):
        if one.token(token) != other.token(token):
            texts = f"{one.token(token)!r} and {other.token(token)!r}"
            raise ModelError(f"{b.name} has another tokenizer than {a.name}: token {token} is {texts}")


def _rule(header: Header, key: str) -> object:
    """Return a value of the tokenizer; by default a space is put before texts if its model is llama, in llama.cpp."""
    value = header.vocabulary.get(key)
    if key == "tokenizer.ggml.add_space_prefix" and value is None:
        return header.metadata.get("tokenizer.ggml.model") == "llama"
    return value


class _Facts(Header):
    """A header being interpreted; every method raises ModelError with the file's name in front."""

    def text_of(self, key: str) -> str | None:
        value = self.metadata.get(key)
        return value if isinstance(value, str) and value else None

    def integer(
        self, key: str, *, low: int = 0, high: int = 1 << 31, default: int | None = None, by_layer: bool = False
    ) -> int:
        """Return the integer under ``key`` within [low, high], or ``default`` if the key is absent.

        With ``by_layer`` it may be an array with a number for each layer, of which the largest is returned.
        """
        value = self.metadata.get(key, default)
        if value is None:
            self.fail(f"not a usable model: key {key!r} is missing")
        values = value if by_layer and isinstance(value, tuple) else (value,)
        if not values or not all(type(one) is int and low <= one <= high for one in values):
            self.fail(f"not a usable model: {key} is {value}, outside {low} to {high}")
        return int(max(values))

    def refuse_other_purposes(self) -> None:
        count = self.metadata.get("split.count", 0)
        if isinstance(count, int) and count > 1:
            self.fail(
                f"one part of a model split into {count} files; "
                "join them first: llama-gguf-split --merge FIRST OUT.gguf"
            )
        architecture = self.text_of("general.architecture")
        kind = "mmproj" if architecture == "clip" else self.text_of("general.type")
        if kind in OTHER_TYPES:
            self.fail(f"{OTHER_TYPES[kind]}, not a language model; give the model's own file")
        pooling = self.metadata.get(f"{architecture}.pooling_type", 0)
        if pooling != 0 or self.metadata.get(f"{architecture}.attention.causal") is False:
            self.fail("a model for embeddings, which does not continue a text; give a language model's file")

    def refuse_infinite_numbers(self) -> None:
        """Raise ModelError for a number that is not finite; llama.cpp computes with it without an error."""
        for key, value in self.metadata.items():
            if isinstance(value, float) and not math.isfinite(value):
                self.fail(f"not a usable model: {key} is {value}")

    def elements_by_type(self) -> Counter[str]:
        """Return the number of elements by type name, after comparing the tensors' ends with the file's size."""
        from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

        if not self.tensors:
            self.fail("holds no tensors (a vocabulary-only file?); fetch or convert the whole model")
        elements: Counter[str] = Counter()
        end = 0
        for tensor in self.tensors:
            if tensor.type not in GGML_QUANT_SIZES:
                self.fail(
                    f"tensor {tensor.name!r} has type {tensor.type}, which the gguf package does not know; "
                    "update gguf and llama-cpp-python, or fetch another quantization"
                )
            block, block_bytes = GGML_QUANT_SIZES[tensor.type]
            n = math.prod(tensor.shape)
            elements[GGMLQuantizationType(tensor.type).name] += n
            end = max(end, self.data_start + tensor.offset + n // block * block_bytes)
        if end > self.size:
            missing = end - self.size
            self.fail(f"truncated: {missing:,} of {end:,} bytes are missing; download or convert it again")
        return elements

    def quantization(self, elements: Counter[str]) -> str:
        """Return llama.cpp's name of the file type, or the type that holds most of the weights."""
        from gguf.constants import LlamaFileType

        file_type = self.metadata.get("general.file_type")
        if isinstance(file_type, int) and file_type & ~LlamaFileType.GUESSED in set(LlamaFileType):
            name: str = LlamaFileType(file_type & ~LlamaFileType.GUESSED).name
            return name.removeprefix("ALL_").removeprefix("MOSTLY_").removesuffix("_MOE")
        return elements.most_common(1)[0][0]

    def add_bos(self, model: str) -> bool:
        stated = self.metadata.get("tokenizer.ggml.add_bos_token")
        if isinstance(stated, bool):
            return stated
        pre = self.metadata.get("tokenizer.ggml.pre")
        return model in BOS_BY_MODEL or (model == "gpt2" and pre in BOS_BY_PRE)

    def special_token(self, key: str, default: int | None) -> str | None:
        stated = self.token(self.metadata.get(f"tokenizer.ggml.{key}"))
        return stated if stated is not None else self.token(default)
