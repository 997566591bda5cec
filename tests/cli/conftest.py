"""What makes whole commands short."""

from __future__ import annotations

import pytest

from icl_local.judging.judges import LocalJudge


@pytest.fixture
def short_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    """A local judge gives reasons of at most eight characters."""
    monkeypatch.setitem(LocalJudge.__init__.__kwdefaults__, "reason_chars", 8)  # type: ignore[misc]
