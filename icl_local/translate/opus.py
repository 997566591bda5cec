"""``opus``: Marian models such as Helsinki-NLP/opus-mt-en-es, through Transformers, sentence by sentence."""

import contextlib
import io
import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from icl_local.exceptions import ConfigError, MissingExtra, TranslationError, needs_extra
from icl_local.identity import key_of
from icl_local.openai_client import ApiReply
from icl_local.translate import segments
from icl_local.weights import hub, sha256_of

REPOSITORY = "Helsinki-NLP/opus-mt-{source}-{target}"
BEAMS = 4
_TEXTS_AT_ONCE = 8  # the most that a kill can lose
_SENTENCES_AT_ONCE = 16
_FILES = ("config.json", "generation_config.json", "*.spm", "vocab.json", "target_vocab.json", "tokenizer_config.json")
_CUT = "\ue0c5"  # from Unicode's private use area, so no text holds it
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")


class OpusEngine:
    """A Marian model in a folder or on the hub.

    ``reference``: a folder or ``owner/name[@revision]``; ``{source}`` and ``{target}`` are replaced by the languages,
    ``#por`` at the end selects a target of a model with several. Raises TranslationError for a folder without such a
    model, HubError, MissingExtra.
    """

    def __init__(
        self,
        reference: str = REPOSITORY,
        *,
        source: str,
        target: str,
        threads: int | None = None,
        on_download: Callable[[str, int, int | None], None] | None = None,
    ) -> None:
        place, _, self._code = reference.replace("{source}", source).replace("{target}", target).partition("#")
        self._target = target
        self._threads = threads
        if Path(place).is_dir():
            self._folder, self.name = Path(place), f"opus:{Path(place).resolve().name}"
        elif place.count("/") == 1:
            repo, _, revision = place.partition("@")
            patterns = (*_FILES, *_WEIGHTS)
            found = hub.fetch_folder(repo, patterns, revision=revision or None, on_progress=on_download)
            self._folder, self.name = found.path, f"opus:{repo}"
        else:
            raise ConfigError(f"{place!r} is neither a folder nor an owner/name of the hub; write opus or opus:FOLDER")
        weights = [self._folder / name for name in _WEIGHTS if (self._folder / name).is_file()]
        if not weights:
            raise TranslationError(f"{self._folder} holds no {' and no '.join(_WEIGHTS)}; name a Marian model's folder")
        files = [weights[0], *(self._folder / name for name in ("source.spm", "target.spm", "vocab.json"))]
        try:
            self._weights = key_of(files=[sha256_of(file) for file in files])
        except OSError as error:
            raise TranslationError(f"{error.filename} cannot be read; a Marian model's folder holds it") from error
        self._model: Any = None
        self._tokenizer: Any = None

    @property
    def settings(self) -> dict[str, object]:
        """Return weights and vocabulary, beams, and the version of the sentence splitter."""
        return {
            "backend": "opus",
            "weights": self._weights,
            "target_code": self._code or None,
            "beams": BEAMS,
            "segments": segments.VERSION,
        }

    def translate(self, texts: Mapping[str, str]) -> Iterator[list[ApiReply]]:
        """Yield the translations of some texts at a time; their sentences run in batches of similar length."""
        self._load()
        left = list(texts)
        while left:
            some, left = left[:_TEXTS_AT_ONCE], left[_TEXTS_AT_ONCE:]
            translated = segments.translate_texts([texts[key] for key in some], self._sentences)
            yield [
                ApiReply(
                    key, 1, "reply", text=text.replace(_CUT, ""), finish_reason="length" if _CUT in text else "stop"
                )
                for key, text in zip(some, translated, strict=True)
            ]

    def _load(self) -> None:
        """Load the model once; beam search replaces the defaults in its files."""
        if self._model is not None:
            return
        with needs_extra("translate"):
            import torch
            from transformers import MarianMTModel, MarianTokenizer
            from transformers.utils import logging
        if self._threads is not None:
            torch.set_num_threads(self._threads)
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        try:
            # it recommends sacremoses, which nothing in it uses
            with warnings.catch_warnings(action="ignore"), contextlib.redirect_stderr(io.StringIO()):
                self._tokenizer = MarianTokenizer.from_pretrained(self._folder, local_files_only=True)
                self._model = MarianMTModel.from_pretrained(self._folder, local_files_only=True).eval()
        except ImportError as error:
            raise MissingExtra("translate", "sentencepiece") from error
        except (OSError, ValueError, KeyError, AssertionError, RuntimeError, json.JSONDecodeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise TranslationError(f"{self._folder} holds no Marian model that can be loaded: {reason}") from error
        self._prefix = self._target_prefix()
        positions = int(self._model.config.max_position_embeddings)
        self._max_tokens = positions - 1  # of input and of output, without the end token

    def _target_prefix(self) -> str:
        codes = [code.strip("><") for code in self._tokenizer.supported_language_codes]
        if not codes and not self._code:
            return ""
        if not self._code:
            self._code = next((code for code in codes if code.split("_")[0] == self._target), "")
        if self._code not in codes:
            raise ConfigError(
                f"{self.name} translates into {', '.join(sorted(codes)[:12]) or 'one language'}; "
                f"add one to its name: #{codes[0] if codes else ''}"
            )
        return f">>{self._code}<< "

    def _sentences(self, sentences: list[str]) -> list[str]:
        """Return the translations of ``sentences``; one that reached the token limit ends in _CUT."""
        chunks = [self._chunks(sentence) for sentence in sentences]
        flat = sorted({chunk for some in chunks for chunk in some}, key=lambda chunk: (len(chunk), chunk))
        done: dict[str, str] = {}
        for start in range(0, len(flat), _SENTENCES_AT_ONCE):
            batch = flat[start : start + _SENTENCES_AT_ONCE]
            done.update(zip(batch, self._generate(batch), strict=True))
        return [" ".join(done[chunk] for chunk in some) for some in chunks]

    def _generate(self, batch: list[str]) -> list[str]:
        import torch

        inputs = self._tokenizer([self._prefix + text for text in batch], return_tensors="pt", padding=True)
        limit = min(self._max_tokens, 3 * inputs["input_ids"].shape[1] + 32)
        with torch.inference_mode(), warnings.catch_warnings(action="ignore"):
            found = self._model.generate(
                **inputs, num_beams=BEAMS, do_sample=False, max_length=None, max_new_tokens=limit
            )
        # the tokenizer would decode with the source's pieces where both sides share a vocabulary file
        texts = self._tokenizer.batch_decode(found, skip_special_tokens=True, use_source_tokenizer=False)
        end = self._tokenizer.eos_token_id
        return [text if end in ids[1:].tolist() else text + _CUT for ids, text in zip(found, texts, strict=True)]

    def _chunks(self, sentence: str) -> list[str]:
        """Return the sentence, cut after a comma or a word if it has more tokens than the model has positions."""
        if len(self._tokenizer(self._prefix + sentence)["input_ids"]) <= self._max_tokens:
            return [sentence]
        words = sentence.split(" ")
        if len(words) == 1:
            half = len(sentence) // 2
            return self._chunks(sentence[:half]) + self._chunks(sentence[half:])
        middle = len(words) // 2
        near = sorted(range(1, len(words)), key=lambda i: (abs(i - middle) // max(1, len(words) // 4), abs(i - middle)))
        at = next((i for i in near if words[i - 1].endswith((",", ";", ":"))), middle)
        return self._chunks(" ".join(words[:at])) + self._chunks(" ".join(words[at:]))
