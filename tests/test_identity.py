"""Deterministic numbers and keys."""

import hashlib

from scipy.stats import kstest

from icl_local.identity import draw


def test_draw_is_the_first_53_bits_of_blake2b_over_canonical_json():
    digest = hashlib.blake2b(b'[1,"\\u00e9",{"a":0,"b":2}]', digest_size=8).hexdigest()
    assert draw(1, "é", {"b": 2, "a": 0}) * 2**53 == int(digest, 16) // 2**11


def test_draws_are_uniform_and_name_apart_what_differs():
    assert kstest([draw(1, "set", str(number)) for number in range(20_000)], "uniform").pvalue > 0.01
    assert len({draw(1), draw("1"), draw([1]), draw(1, 1), draw(11)}) == 5
