"""What runs commands, and what makes them short."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest

from icl_local.cli import main
from icl_local.judging.judges import LocalJudge

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def short_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    """A local judge gives reasons of at most eight characters."""
    monkeypatch.setitem(LocalJudge.__init__.__kwdefaults__, "reason_chars", 8)  # type: ignore[misc]


@pytest.fixture
def icl(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command line in this process: (exit status, stdout, stderr)."""

    def run(*arguments: object, stdin: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        code = ended.value.code
        return code if isinstance(code, int) else 0, out, err

    return run
