"""The process that runs llama.cpp's convert_hf_to_gguf.py: `python -m icl_local.convert.converter_process SOURCES`.

What it adds to the converter: keys ``icl.*`` in the header, and what docs/convert.md lists.
"""

import functools
import importlib
import json
import logging
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from icl_local.child_process import Message, serve
from icl_local.convert import pre_tokenizers
from icl_local.files import NO_SPACE

_SPACE = "\u2581"  # SentencePiece's visible space
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = range(1, 7)  # types of SentencePiece's pieces


class _Converter:
    """The converter in the folder ``sources`` with the additions of this module."""

    def __init__(self, sources: Path) -> None:
        sys.path.insert(0, str(sources))
        self._main = importlib.import_module("convert_hf_to_gguf").main
        self._fields: dict[str, str | bool] = {}
        self._tokenizer: dict[str, Any] = {}
        base: Any = importlib.import_module("conversion.base")
        set_type, base_pre = base.ModelBase.set_type, base.TextModel.get_vocab_base_pre
        load_hparams = base.ModelBase.load_hparams

        def set_type_and_fields(model: Any) -> None:
            set_type(model)
            for key, value in self._fields.items():
                (model.gguf_writer.add_bool if isinstance(value, bool) else model.gguf_writer.add_string)(key, value)

        def known_or_by_structure(model: Any, tokenizer: Any) -> str:
            try:
                return str(base_pre(model, tokenizer))
            except NotImplementedError:
                return pre_tokenizers.name_of(self._tokenizer)

        def hparams_under_old_names(*arguments: Any, **options: Any) -> dict[str, Any]:
            found: dict[str, Any] = load_hparams(*arguments, **options)
            if share := (found.get("rope_parameters") or {}).get("partial_rotary_factor"):
                found.setdefault("rotary_pct", share)  # GPT-NeoX; Transformers 5 has renamed it
            return found

        base.ModelBase.load_hparams = staticmethod(hparams_under_old_names)
        base.ModelBase.set_type = set_type_and_fields
        base.TextModel.get_vocab_base_pre = known_or_by_structure

    def convert(self, folder: str, out: str, kind: str, name: str, fields: dict[str, str | bool]) -> None:
        self._fields, path = dict(fields), Path(folder) / "tokenizer.json"
        self._tokenizer = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        if self._tokenizer and self._tokenizer["model"].get("byte_fallback"):
            self._fields["tokenizer.ggml.add_space_prefix"] = _puts_space_first(path)
            if not path.with_suffix(".model").exists():
                _write_sentencepiece(self._tokenizer, path.with_suffix(".model"))
        sys.argv = ["convert_hf_to_gguf", folder, "--outfile", out, "--outtype", kind, "--model-name", name]
        self._main()


class _LastError(logging.Handler):
    """The last error that the converter logged; it ends with a bare exit status."""

    text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text = record.getMessage()


def main(sources: Path) -> None:
    """Convert for every message until standard input closes."""
    logging.getLogger().addHandler(last := _LastError(logging.ERROR))
    converter = functools.cache(lambda: _Converter(sources))

    def handle(message: Message, reply: Callable[[Message], None]) -> None:
        try:
            converter().convert(**message)
        except SystemExit:
            reply({"error": last.text, "no_space": False})
        except Exception as error:
            # numpy reports a full disk as text only
            no_space = getattr(error, "errno", None) in NO_SPACE or "requested and" in str(error)
            reply({"error": f"{error}" or type(error).__name__, "no_space": no_space})
        else:
            reply({"error": None})

    serve(handle)


def _puts_space_first(tokenizer_json: Path) -> bool:
    """Return whether the tokenizer puts a space before a text."""
    from tokenizers import Tokenizer

    tokens: list[str] = Tokenizer.from_file(str(tokenizer_json)).encode("a", add_special_tokens=False).tokens
    return tokens[0].startswith(_SPACE)


def _write_sentencepiece(tokenizer: dict[str, Any], path: Path) -> None:
    """Write a tokenizer.model: llama.cpp joins the pair of the highest score, minus the rank of its first merge."""
    protobuf: Any = importlib.import_module("sentencepiece.sentencepiece_model_pb2")
    model = tokenizer["model"]
    rank: dict[str, int] = {}
    for i, merge in enumerate(model["merges"]):
        rank.setdefault("".join(merge.split(" ") if isinstance(merge, str) else merge), i)
    pieces = {
        i: (piece, _BYTE if re.fullmatch("<0x[0-9A-F]{2}>", piece) else _NORMAL) for piece, i in model["vocab"].items()
    }
    for token in tokenizer["added_tokens"]:
        special, text = token["special"], token["content"]
        pieces[token["id"]] = (text, _CONTROL) if special else (text.replace(_SPACE, " "), _USER_DEFINED)
    written = protobuf.ModelProto()
    written.trainer_spec.byte_fallback = True
    for i in range(max(pieces) + 1):
        piece, kind = pieces.get(i, (f"[PAD{i}]", _UNUSED))
        kind = _UNKNOWN if piece == model["unk_token"] else kind
        written.pieces.add(piece=piece, type=kind, score=-rank.get(piece, len(rank)))
    path.write_bytes(written.SerializeToString())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
