"""Kept tokens against Transformers' warpers, frequencies against probabilities, and draws that know no batch."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from icl_local.engine import Request, Sampling, Worker
from icl_local.engine.protocol import EngineOptions
from icl_local.identity import draw

SETTINGS = [(0.7, 0.95, 0.0), (0.3, 1.0, 0.05), (1.0, 0.9, 0.1), (1.6, 0.5, 0.0), (5.0, 0.99, 0.001), (1.0, 1.0, 0.0)]


@pytest.mark.parametrize(("temperature", "top_p", "min_p"), SETTINGS)
def test_kept_ids_are_those_of_transformers(temperature: float, top_p: float, min_p: float) -> None:
    torch = pytest.importorskip("torch")
    from transformers import MinPLogitsWarper, TemperatureLogitsWarper, TopPLogitsWarper

    rng = np.random.default_rng(3)
    rows = (rng.standard_normal((200, 500)) * rng.uniform(0.5, 8, (200, 1))).astype(np.float32)
    scores = torch.from_numpy(rows.astype(np.float64))
    for warper in (TemperatureLogitsWarper(temperature), TopPLogitsWarper(top_p), MinPLogitsWarper(min_p)):
        scores = warper(None, scores)
    for row, warped in zip(rows, scores.numpy(), strict=True):
        ids, cumulative, total, _ = Sampling(temperature, top_p, min_p, ()).kept(row)
        assert set(ids) == set(np.flatnonzero(np.isfinite(warped)))
        assert list(warped[ids]) == sorted(warped[ids], reverse=True)
        probabilities = np.exp(warped - warped.max())
        assert cumulative / total == pytest.approx(np.cumsum(probabilities[ids]) / probabilities.sum())


def test_equal_tokens_are_ordered_by_id() -> None:
    logits = np.array([0, 2, 1, 2, 1], dtype=np.float32)
    assert list(Sampling(1.0, 1.0, 0.0, ()).kept(logits)[0]) == [1, 3, 2, 4, 0]


@pytest.mark.parametrize(("temperature", "top_p", "min_p"), [*SETTINGS, (1.5, 0.95, 0.0), (1.0, 0.99, 1e-4)])
def test_a_pick_that_sorts_few_tokens_is_that_of_all_kept(temperature: float, top_p: float, min_p: float) -> None:
    row = (np.random.default_rng(7).standard_normal(20_000) * 2).astype(np.float32)
    row[:100] += 3
    ids, cumulative, total, _ = Sampling(temperature, top_p, min_p, ()).kept(row)
    picked = [Sampling(temperature, top_p, min_p, (1, i)).pick(row, 3) for i in range(500)]
    places = [int(np.searchsorted(cumulative, draw(1, i, 3) * total, side="right")) for i in range(500)]
    assert picked == [int(ids[place]) for place in places]


def test_a_hundred_thousand_draws_have_the_probabilities() -> None:
    stats = pytest.importorskip("scipy.stats")
    logits = (np.random.default_rng(5).standard_normal(40) * 2).astype(np.float32)
    ids, cumulative, total, _ = Sampling(0.9, 0.97, 0.01, ()).kept(logits)
    expected = np.diff(cumulative, prepend=0) / total * 100_000
    drawn = [Sampling(0.9, 0.97, 0.01, (11, "set", "query", i)).pick(logits, 0) for i in range(100_000)]
    observed = np.bincount(drawn, minlength=40)[ids]
    assert observed.sum() == 100_000
    assert stats.chisquare(observed, expected).pvalue > 0.001


def test_draws_are_the_same_in_every_batch_and_order(tiny_gguf: Path) -> None:
    requests = [
        Request(
            f"{i} {number}",
            f"Number {i % 50} of them",
            3 + i % 3,
            sampling=Sampling(1.0, 0.95, 0.01, (1, "d", i, number)),
        )
        for i in range(64)
        for number in (1, 2, 3)
    ]
    with Worker(tiny_gguf, EngineOptions(threads=1)) as worker:
        alone = {one.id: one for one in worker.generate(requests, parallel=1)}
        for parallel in (8, 16):
            shuffled = random.Random(parallel).sample(requests, len(requests))
            killed = shuffled[:70], shuffled[70:]
            assert alone == {one.id: one for part in killed for one in worker.generate(part, parallel=parallel)}
        another = [
            replace(one, sampling=replace(one.sampling, of=(2, *one.sampling.of[1:])))
            for one in requests
            if one.sampling
        ]
        others = {one.id: one.tokens for one in worker.generate(another, parallel=16)}
    assert len({alone[f"0 {number}"].tokens for number in (1, 2, 3)}) == 3
    assert sum(others[key] == one.tokens for key, one in alone.items()) < 10
