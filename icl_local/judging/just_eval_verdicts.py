"""just-eval's published verdicts of GPT-4 and GPT-3.5 snapshots: scores of judges that are no longer available.

Repository Re-Align/just-eval (MIT License, (c) 2023 AI2), folder leaderboard/eval_results, at one commit.
"""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from icl_local.cache import kept_folder
from icl_local.exceptions import HubError, InputError
from icl_local.judging.imports import ImportedVerdicts, import_judgments
from icl_local.prompting import json_items
from icl_local.store import Store

REPOSITORY = "https://github.com/Re-Align/just-eval"
COMMIT = "3e1a1265e210be1d6ad71624c91da3efc36493ca"
_FOLDER = "leaderboard/eval_results"
_FILES = (
    "gpt-4/*.score_multi.gpt-4.json",  # 15 systems x 800
    "gpt-4/*.score_safety.chatgpt.json",  # 15 systems x 200
    "gpt-4-turbo/gpt-3.5-turbo-0301/*.*-*.json",  # one system by the paper's judge, in parts
)
_PART = re.compile(r"\.\d+-\d+(?=\.json$)")


def pull(path: Path, clone: Path | None = None) -> Iterator[tuple[str, ImportedVerdicts]]:
    """Import the verdicts into a database: yield each file's name with its counts.

    ``clone``: a clone of the repository; None fetches the commit with git. Raises InputError, HubError.
    """
    root = (clone or kept_folder(f"verdicts-{COMMIT[:12]}", _fetched)) / _FOLDER
    files = [file for pattern in _FILES for file in sorted(root.glob(pattern))]
    if not files:
        raise InputError(f"{root}: holds no verdicts; give a clone of {REPOSITORY} with --from")
    with Store(path) as target:
        for file in files:
            # parts of one file are one system
            source = _PART.sub("", file.name)
            yield file.name, import_judgments(target, json_items.read_file(file), source=source, language="en")


def _fetched(work: Path) -> Path:
    """Return a clone of the commit in ``work``, with the folder of verdicts alone."""
    draft = work / "clone"
    draft.mkdir()
    for step in (
        ("init", "--quiet"),
        ("sparse-checkout", "set", _FOLDER),
        ("fetch", "--quiet", "--depth", "1", REPOSITORY, COMMIT),
        ("checkout", "--quiet", COMMIT),
    ):
        try:
            subprocess.run(["git", "-C", str(draft), *step], capture_output=True, text=True, check=True)
        except OSError as error:
            reason = f"cannot be started ({error.strerror})"
            raise HubError(f"git {reason}; clone {REPOSITORY} and give --from CLONE") from error
        except subprocess.CalledProcessError as error:
            reason = " ".join(error.stderr.split()) or f"exit status {error.returncode}"
            raise HubError(f"git {step[0]}: {reason}; clone {REPOSITORY} yourself and give --from CLONE") from error
    return draft
