"""A Marian model of 30,000 random weights with a real SentencePiece vocabulary, trained on the spot."""

from __future__ import annotations

import io
import json
from pathlib import Path

from icl_local.prompting import queries


def build_tiny_marian(folder: Path, *, positions: int = 48, codes: tuple[str, ...] = ()) -> Path:
    """Write the model as Helsinki-NLP's repositories hold theirs; ``codes``: target languages of a model of several."""
    import sentencepiece
    import torch
    from transformers import MarianConfig, MarianMTModel, MarianTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    pieces: dict[str, int] = {"</s>": 0, "<unk>": 1}
    for name, languages in (("source", ["en"]), ("target", ["es", "fr"])):
        model = io.BytesIO()
        lines = [query.instruction for code in languages for query in queries.samples(code).queries]
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines * 3), model_writer=model, vocab_size=200, model_type="unigram",
            hard_vocab_limit=False, minloglevel=2, num_threads=1, bos_id=-1,
        )  # fmt: skip
        (folder / f"{name}.spm").write_bytes(model.getvalue())
        processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
        for index in range(processor.get_piece_size()):
            pieces.setdefault(processor.id_to_piece(index), len(pieces))
    for code in codes:
        pieces[f">>{code}<<"] = len(pieces)
    pieces["<pad>"] = len(pieces)
    (folder / "vocab.json").write_text(json.dumps(pieces, ensure_ascii=False), encoding="utf-8")
    tokenizer = MarianTokenizer(str(folder / "source.spm"), str(folder / "target.spm"), str(folder / "vocab.json"))
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    pad = pieces["<pad>"]
    config = MarianConfig(
        vocab_size=len(pieces), d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, max_position_embeddings=positions,
        pad_token_id=pad, eos_token_id=0, decoder_start_token_id=pad, forced_eos_token_id=0, init_std=0.5,
    )  # fmt: skip
    MarianMTModel(config).save_pretrained(folder)
    return folder
