"""Messages agree with their numbers."""

from __future__ import annotations

from icl_local.wording import counted


def test_one_thing_is_singular_and_every_other_number_plural() -> None:
    assert [counted(n, "new response") for n in (0, 1, 2)] == ["0 new responses", "1 new response", "2 new responses"]
    assert [counted(n, "query") for n in (1, 1234)] == ["1 query", "1,234 queries"]
    assert counted(2, "text was", "texts were") == "2 texts were"
