"""llama.cpp's objects and the only importer of llama_cpp: model, context, grammar, quantisation, build facts.

Runs in the worker process (engine/service.py), because llama.cpp aborts its process on some damaged files.
engine/batching.py decides what to decode.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import math
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from icl_local.engine.protocol import UNUSABLE_FILE, EngineInfo, EngineOptions
from icl_local.engine.sequences import BatchToken, Interrupted
from icl_local.exceptions import ConfigError, EngineError
from icl_local.operating_system import usable_cpus
from icl_local.wording import counted

GGML_TYPES = {"f32": 0, "f16": 1}
_GRAMMAR_CANDIDATES = 64
_ERRORS_KEPT = 100
_LOG_ERROR = 4  # GGML_LOG_LEVEL_ERROR of ggml.h

_errors: list[str] = []


def _keep_errors(level: int, text: bytes, _user: Any) -> None:
    if level == _LOG_ERROR and len(_errors) < _ERRORS_KEPT:
        _errors.append(" ".join(text.decode("utf-8", "replace").split()))


_log_callback = llama_cpp.llama_log_callback(_keep_errors)  # ctypes does not keep a reference


@functools.cache
def _backend() -> None:
    llama_cpp.llama_log_set(_log_callback, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()


def _reason() -> str:
    """Return the first error logged since ``_errors`` was cleared: later ones only say that something failed."""
    first = next((line for line in _errors if line), "no message")
    return first.rpartition("error loading model: ")[2]


def system_info() -> dict[str, str]:
    """Return build facts: llama_build, cpu_features (those that are on), gpu (true | false), package, system."""
    _backend()
    raw: str = llama_cpp.llama_print_system_info().decode()
    features = [part.split("=")[0].strip() for part in raw.replace("CPU :", "|").split("|") if "= 1" in part]
    version: bytes | str = llama_cpp.llama_version()
    return {
        "package": llama_cpp.__version__,
        "llama_build": f"{llama_cpp.__version__}/{version.decode() if isinstance(version, bytes) else version}",
        "cpu_features": " ".join(sorted(features)),
        "system": raw.strip(),
        "gpu": "true" if llama_cpp.llama_supports_gpu_offload() else "false",
    }


def repacks(options: EngineOptions) -> bool:
    """Return whether weights are repacked: by default yes, never with AMX.

    ``use_extra_bufts`` selects llama.cpp's AMX kernels if the CPU reports AMX. They end the process (SIGSEGV on
    ``ldtilecfg``) on virtual machines that report AMX without its tiles.
    """
    return options.repack is not False and "AMX_INT8" not in system_info()["cpu_features"].split()


class LlamaModel:
    """A loaded GGUF file with, after ``open``, a context of several sequences.

    ``abort_flag``: address of two bytes; as soon as the first is not NUL, a decode under way stops (CPU only).
    Raises EngineError if llama.cpp refuses the file or a context does not fit into memory.
    """

    def __init__(self, path: Path, options: EngineOptions, *, abort_flag: int = 0, vocab_only: bool = False) -> None:
        _backend()
        self._path = path
        self.options = options
        self._abort_flag = abort_flag
        self._context: Any = None
        self._batch: Any = None
        self.piece = functools.cache(self._piece)
        self.is_eog = functools.cache(self._is_eog)
        self.gpu_layers = self._gpu_layers(options.gpu_layers)
        self.n_threads = self._threads(options.threads)
        params = llama_cpp.llama_model_default_params()
        params.n_gpu_layers = self.gpu_layers
        params.use_extra_bufts = repacks(options)
        params.vocab_only = vocab_only
        _errors.clear()
        self._model = llama_cpp.llama_model_load_from_file(os.fsencode(path), params)
        if not self._model:
            raise EngineError(f"llama.cpp cannot load {path.name}: {_reason()}; {UNUSABLE_FILE}")
        self._vocab = llama_cpp.llama_model_get_vocab(self._model)
        self.n_vocab: int = llama_cpp.llama_vocab_n_tokens(self._vocab)
        self.n_ctx_train: int = llama_cpp.llama_model_n_ctx_train(self._model)
        self._add_eos: bool = llama_cpp.llama_vocab_get_add_eos(self._vocab)

    @property
    def kv_type(self) -> str:
        """Return the ggml type of the KV cache."""
        return self.options.kv_type or "f16"

    @staticmethod
    def _gpu_layers(requested: int | None) -> int:
        if not llama_cpp.llama_supports_gpu_offload():
            if requested:
                raise ConfigError(
                    "this build of llama.cpp has no GPU support; rebuild it (docs/install.md) or drop --gpu-layers"
                )
            return 0
        return -1 if requested is None else requested

    @staticmethod
    def _threads(requested: int | None) -> int:
        most = usable_cpus()
        if requested and requested > most:  # threads that wait for a processor stop all the others
            here = counted(most, "processor")
            raise ConfigError(f"--threads {requested}: this machine has {here}; give fewer, or leave it out")
        return requested or physical_cores()

    def info(self) -> EngineInfo:
        """Return the facts about the loaded file, the build and the chosen options."""
        system = system_info()
        return EngineInfo(
            llama_build=system["llama_build"],
            cpu_features=system["cpu_features"],
            n_ctx_train=self.n_ctx_train,
            n_threads=self.n_threads,
            gpu_layers=self.gpu_layers,
            kv_type=self.kv_type,
            repack=repacks(self.options),
        )

    def close(self) -> None:
        """Free context and model."""
        self._close_context()
        if self._model:
            llama_cpp.llama_model_free(self._model)
            self._model = None

    def _close_context(self) -> None:
        if self._batch is not None:
            llama_cpp.llama_batch_free(self._batch)
            self._batch = None
        if self._context:
            llama_cpp.llama_free(self._context)
            self._context = None

    def open(self, *, n_sequences: int, n_ctx_seq: int) -> None:
        """Make an empty context of ``n_sequences`` with room for ``n_ctx_seq`` tokens each (a multiple of 256)."""
        self._close_context()
        options = self.options
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = n_ctx_seq * n_sequences
        params.n_seq_max = n_sequences
        params.n_batch = max(options.n_ubatch, n_sequences)
        params.n_ubatch = max(options.n_ubatch, n_sequences)
        params.n_threads = params.n_threads_batch = self.n_threads
        params.kv_unified = options.kv_unified
        params.flash_attn_type = int(options.flash_attn)  # 0: never, 1: always
        params.type_k = params.type_v = GGML_TYPES[self.kv_type]
        params.no_perf = True
        if self._abort_flag:
            # strlen as the callback: it returns 0 until the first byte is set, without Python between graph nodes.
            libc = ctypes.CDLL(None)
            params.abort_callback = ctypes.cast(libc.strlen, llama_cpp.ggml_abort_callback)
            params.abort_callback_data = self._abort_flag
        _errors.clear()
        self._context = llama_cpp.llama_init_from_model(self._model, params)
        if not self._context:
            raise EngineError(
                f"no context of {n_sequences} x {n_ctx_seq} tokens for {self._path.name}: {_reason()};"
                " use a smaller --parallel or --max-tokens"
            )
        self._memory = llama_cpp.llama_get_memory(self._context)
        self._batch = llama_cpp.llama_batch_init(params.n_batch, 0, 1)
        self._n_batch: int = params.n_batch

    def tokenize(self, text: str, *, add_special: bool = True, plain: tuple[int, int] | None = None) -> list[int]:
        """Return token ids; BOS is added if the file asks for it, control tokens in the text are recognised.

        Those that touch the characters ``plain`` (start, end) are read as text. Without such a token the ids are those
        without ``plain``; with one, the text between the next control tokens around ``plain`` is tokenized alone, as
        llama.cpp does with any text between control tokens.
        """
        found = [match.span() for match in self._control_tokens.finditer(text)] if plain else []
        before = [span for span in found if plain and span[1] <= plain[0]]
        after = [span for span in found if plain and span[0] >= plain[1]]
        if len(before) + len(after) == len(found):
            return self._tokenize(text, add_special=add_special)
        start = before[-1][1] if before else 0
        end = after[0][0] if after else len(text)
        head = self._tokenize(text[:start], add_special=add_special) if before else []
        middle = self._tokenize(text[start:end], add_special=add_special and not before, control=False)
        return head + middle + (self._tokenize(text[end:], add_special=False) if after else [])

    @functools.cached_property
    def _control_tokens(self) -> re.Pattern[str]:
        """Return the texts of the tokens that are recognised only as control tokens, the longest first."""
        kinds = llama_cpp.LLAMA_TOKEN_ATTR_CONTROL | llama_cpp.LLAMA_TOKEN_ATTR_UNKNOWN
        attributes = llama_cpp.llama_vocab_get_attr
        texts = [self.token_text(token) for token in range(self.n_vocab) if attributes(self._vocab, token) & kinds]
        return re.compile("|".join(map(re.escape, sorted(filter(None, texts), key=len, reverse=True))) or "(?!)")

    def _tokenize(self, text: str, *, add_special: bool, control: bool = True) -> list[int]:
        data = text.encode("utf-8", "replace")
        size = len(data) + 16
        buffer = (llama_cpp.llama_token * size)()
        count = llama_cpp.llama_tokenize(self._vocab, data, len(data), buffer, size, add_special, control)
        if count < 0:
            raise EngineError(f"the tokenizer of {self._path.name} gave {-count} tokens for {len(data)} bytes")
        tokens = list(buffer[:count])
        if add_special and self._add_eos and tokens and self.is_eog(tokens[-1]):
            tokens.pop()  # an EOS after the prompt would end the answer before it begins
        return tokens

    def _piece(self, token: int, size: int = 512) -> bytes:
        """Return the UTF-8 bytes of a token, possibly a part of a character; nothing for control tokens."""
        buffer = ctypes.create_string_buffer(size)
        count: int = llama_cpp.llama_token_to_piece(self._vocab, token, buffer, size, 0, False)
        return buffer.raw[:count] if count >= 0 else self._piece(token, -count)

    def token_text(self, token: int) -> str:
        """Return the text of a token as the vocabulary spells it, such as ``<|im_end|>``."""
        text: bytes = llama_cpp.llama_vocab_get_text(self._vocab, token)
        return text.decode("utf-8", "replace")

    def _is_eog(self, token: int) -> bool:
        """Return whether the token ends a generation (EOS, EOT, <|im_end|> ...)."""
        return bool(llama_cpp.llama_vocab_is_eog(self._vocab, token))

    def decode(self, batch: Sequence[BatchToken]) -> None:
        """Run the tokens as one batch. Raises Interrupted when aborted, EngineError when llama.cpp refuses."""
        memory = self._batch
        memory.n_tokens = len(batch)
        for i, token in enumerate(batch):
            memory.token[i] = token.token
            memory.pos[i] = token.position
            memory.n_seq_id[i] = 1
            memory.seq_id[i][0] = token.sequence
            memory.logits[i] = token.logits
        _errors.clear()
        status = llama_cpp.llama_decode(self._context, memory)
        if status == 2:
            raise Interrupted
        if status != 0:
            raise EngineError(f"llama.cpp could not decode a batch (status {status}): {_reason()}")

    def logits(self, index: int) -> NDArray[np.float32]:
        """Return the logits [n_vocab] of batch token ``index``: llama.cpp's memory, valid until the next decode."""
        pointer = llama_cpp.llama_get_logits_ith(self._context, index)
        return np.ctypeslib.as_array(pointer, shape=(self.n_vocab,))

    def copy_sequence(self, source: int, target: int) -> None:
        """Make ``target`` a copy of ``source``."""
        llama_cpp.llama_memory_seq_rm(self._memory, target, -1, -1)
        llama_cpp.llama_memory_seq_cp(self._memory, source, target, -1, -1)

    def cut_sequence(self, sequence: int, length: int) -> None:
        """Keep the first ``length`` positions of a sequence."""
        llama_cpp.llama_memory_seq_rm(self._memory, sequence, length, -1)

    def save_sequence(self, sequence: int) -> bytes:
        """Return the KV state of a sequence."""
        size = llama_cpp.llama_state_seq_get_size(self._context, sequence)
        buffer = (ctypes.c_uint8 * size)()
        written = llama_cpp.llama_state_seq_get_data(self._context, buffer, size, sequence)
        return bytes(memoryview(buffer)[:written])

    def load_sequence(self, sequence: int, state: bytes) -> bool:
        """Restore a state of ``save_sequence``; return False if llama.cpp refuses it."""
        buffer = (ctypes.c_uint8 * len(state)).from_buffer_copy(state)
        return bool(llama_cpp.llama_state_seq_set_data(self._context, buffer, len(state), sequence))

    def grammar(self, text: str) -> LlamaGrammar:
        """Return a new constraint; raises ConfigError if the grammar does not parse."""
        return LlamaGrammar(self._vocab, text)


class LlamaGrammar:
    """A GBNF grammar walked along one sequence."""

    def __init__(self, vocab: Any, text: str) -> None:
        self._sampler = llama_cpp.llama_sampler_init_grammar(vocab, text.encode(), b"root")
        if not self._sampler:
            raise ConfigError(f"llama.cpp does not accept the grammar: {_reason()}")

    def pick(self, logits: NDArray[np.float32]) -> int:
        """Return the allowed id with the largest logit: the best few are tried first, then the whole vocabulary."""
        count = min(_GRAMMAR_CANDIDATES, len(logits))
        best = np.argpartition(logits, -count)[-count:]
        best = best[np.lexsort((best, -logits[best]))]
        for ids in (best[:1], best, np.arange(len(logits))):
            allowed = self._allowed(ids, logits)
            if allowed.any():
                kept = ids[allowed]
                return int(kept[logits[kept].argmax()])
        raise EngineError("the grammar allows no token here; simplify it")

    def allowed(self, logits: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return all allowed ids, ascending."""
        ids = np.arange(len(logits))
        return ids[self._allowed(ids, logits)]

    def _allowed(self, ids: NDArray[np.int64], logits: NDArray[np.float32]) -> NDArray[np.bool_]:
        data = (llama_cpp.llama_token_data * len(ids))()
        view = np.frombuffer(data, dtype=[("id", np.int32), ("logit", np.float32), ("p", np.float32)])
        view["id"] = ids
        view["logit"] = logits[ids]
        array = llama_cpp.llama_token_data_array(data, len(ids), -1, False)
        llama_cpp.llama_sampler_apply(self._sampler, ctypes.byref(array))
        return np.asarray(np.isfinite(view["logit"]))

    def accept(self, token: int) -> None:
        """Advance by ``token``."""
        llama_cpp.llama_sampler_accept(self._sampler, token)

    def close(self) -> None:
        """Free the sampler."""
        if self._sampler:
            llama_cpp.llama_sampler_free(self._sampler)
            self._sampler = None


def physical_cores() -> int:
    """Return the cores this process may use, hyper-threads as half: they share units that matrix products saturate."""
    try:
        siblings = Path("/sys/devices/system/cpu/cpu0/topology/thread_siblings_list").read_text()
        per_core = max(1, len(siblings.replace("-", ",").split(",")))
    except OSError:
        per_core = 1
    return max(1, math.ceil(usable_cpus() / per_core))


def tokenize(path: str, texts: Sequence[str], add_special: bool) -> list[list[int]]:
    """Return the token ids of each text; only the vocabulary of the file is loaded."""
    with contextlib.closing(LlamaModel(Path(path), EngineOptions(), vocab_only=True)) as model:
        return [model.tokenize(text, add_special=add_special) for text in texts]


def write_prompt_logits(path: str, token_ids: Sequence[int], out: str) -> None:
    """Write the logits [n_tokens, n_vocab] of every position of one prompt to the .npy file ``out``."""
    # not repacked: repacked weights are a second copy in memory
    with contextlib.closing(LlamaModel(Path(path), EngineOptions(kv_type="f32", repack=False))) as model:
        model.open(n_sequences=1, n_ctx_seq=-(-len(token_ids) // 256) * 256)
        result = np.empty((len(token_ids), model.n_vocab), dtype=np.float32)
        for start in range(0, len(token_ids), 512):
            chunk = token_ids[start : start + 512]
            model.decode([BatchToken(token, 0, start + i, True) for i, token in enumerate(chunk)])
            for i in range(len(chunk)):
                result[start + i] = model.logits(i)
    np.save(out, result)


def file_types() -> dict[str, int]:
    """Return the GGUF file types that can be written here by lower-case name, without those that need an imatrix."""
    prefix = "LLAMA_FTYPE_"
    needs_imatrix = ("iq1", "iq2", "q2_k_s", "iq3_xxs")
    found = {}
    for constant in dir(llama_cpp):
        name = constant.removeprefix(prefix).removeprefix("MOSTLY_").removeprefix("ALL_").lower()
        if constant.startswith(prefix) and name != "guessed" and not name.startswith(needs_imatrix):
            found[name] = int(getattr(llama_cpp, constant))
    return found


def quantize(path: str, target: str, type_name: str, allow_requantize: bool) -> None:
    """Write the file in another type to ``target``; a failure can leave a part of it.

    Raises ConfigError for an unknown type, EngineError if llama.cpp refuses: a quantised file needs
    ``allow_requantize``.
    """
    _backend()
    types = file_types()
    if type_name.lower() not in types:
        raise ConfigError(f"unknown type {type_name}; choose one of {', '.join(sorted(types))}")
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = types[type_name.lower()]
    params.allow_requantize = allow_requantize
    _errors.clear()
    if llama_cpp.llama_model_quantize(os.fsencode(path), os.fsencode(target), ctypes.byref(params)) != 0:
        reason, hint = _reason(), "a file that is quantised already needs --allow-requantize"
        if "iostream error" in reason:
            hint = "free some space on the disk"
        raise EngineError(f"llama.cpp could not quantise {Path(path).name} to {type_name}: {reason}; {hint}")


# what engine/file_tasks.py calls by name; arguments and results have a JSON form
TASKS: dict[str, Callable[..., object]] = {
    function.__name__: function for function in (tokenize, write_prompt_logits, file_types, quantize, system_info)
}
