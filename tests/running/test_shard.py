"""Parts of the work for several machines."""

from __future__ import annotations

import pytest

from icl_local.exceptions import ConfigError
from icl_local.running.shard import Shard


@pytest.mark.parametrize("text", ["0/2", "3/2", "a/b", "1", "-1/2"])
def test_an_impossible_shard_is_an_error(text: str) -> None:
    with pytest.raises(ConfigError, match="i from 1 to n"):
        Shard.parse(text)


def test_shards_divide_the_work() -> None:
    items = list(range(11))
    parts = [Shard(i, 3).take(items) for i in (1, 2, 3)]
    assert sorted(item for part in parts for item in part) == items
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    keys = [f"{i * 2654435761 % 2**32:08x}" for i in range(300)]
    held = [[key for key in keys if Shard(i, 3).holds(key)] for i in (1, 2, 3)]
    assert sorted(key for part in held for key in part) == sorted(keys)
    assert min(map(len, held)) > 60
