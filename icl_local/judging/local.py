"""``local:GGUF``: a judge on this project's engine, batched; a grammar holds every verdict to the schema."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from icl_local import prompting
from icl_local.engine import Completion, DecodeProgress, EngineOptions, OpenWorker, Request, Worker
from icl_local.identity import key_of
from icl_local.judging.grammar import Grammar, grammar_of
from icl_local.judging.ledger import REJECTED, Attempt, Task, failed
from icl_local.judging.parse import parse_verdict
from icl_local.judging.template import verdict_schema
from icl_local.weights import ResolvedModel

REASON_CHARS = 120  # bounds a verdict's tokens, and with them its KV cache
_PLACEHOLDER = "\ue0c3judge\ue0c4"  # from Unicode's private use area, so no prompt holds it


class LocalJudge:
    """A GGUF file as judge: greedy, without a repetition penalty, which would penalise the words of the JSON form.

    ``reason_chars`` bounds each reason; it is part of the judge's identity, like the weights and the KV type.
    ``open_worker`` starts the engine: a process on this machine, or a cluster's.
    """

    def __init__(
        self,
        model: ResolvedModel,
        *,
        options: EngineOptions | None = None,
        reason_chars: int = REASON_CHARS,
        open_worker: OpenWorker | None = None,
        on_progress: Callable[[DecodeProgress], None] | None = None,
    ) -> None:
        self.model = model
        self.open_worker = open_worker or (lambda model, options: Worker(model.path, options))
        self._options = options or EngineOptions()
        self._reason_chars = reason_chars
        self._on_progress = on_progress

    @property
    def name(self) -> str:
        """Return the name that is stored and shown, without the folders of a path."""
        return f"local:{self.model.registry_name or self.model.path.name}"

    @property
    def settings(self) -> dict[str, object]:
        """Return the settings that change the verdict, besides weights and prompt."""
        return {
            "temperature": 0.0,
            "repetition_penalty": 1.0,
            "reason_chars": self._reason_chars,
            "kv_type": self._options.kv_type or "auto",
        }

    @property
    def judge_id(self) -> str:
        """Return the key of weights and settings."""
        return key_of(kind="judge", backend="local", weights=self.model.sha256, settings=self.settings)

    def row(self) -> dict[str, object]:
        """Return the row of raw.judges."""
        return {
            "judge_id": self.judge_id,
            "name": self.name,
            "backend": "local",
            "model": self.model.label,
            "gguf_sha256": self.model.sha256,
            "settings": self.settings,
        }

    def attempts(self, tasks: Sequence[Task]) -> Iterator[list[Attempt]]:
        """Yield one attempt per task, ordered by template, so that tasks share a prefix. Raises EngineError."""
        by_id = {task.judgment_id: task for task in tasks}
        with self.open_worker(self.model, self._options) as worker:
            for _, group in itertools.groupby(
                sorted(tasks, key=lambda task: task.template.sha256), key=lambda task: task.template
            ):
                for completion in worker.generate(self.requests(list(group)), on_progress=self._on_progress):
                    yield [_attempt(by_id[completion.id], completion)]

    def requests(self, tasks: Sequence[Task]) -> list[Request]:
        """Return tasks of one template as engine requests with its grammar."""
        grammar = self.grammar(tasks[0])
        before, after = self._chat_frame()
        return [
            Request(
                id=task.judgment_id,
                prompt=before + task.prompt + after,
                max_tokens=grammar.max_tokens,
                repetition_penalty=1.0,
                grammar=grammar.text,
            )
            for task in tasks
        ]

    def grammar(self, task: Task) -> Grammar:
        """Return the grammar that holds a task's verdict to its schema."""
        return grammar_of(verdict_schema(task.template.aspects), max_string_chars=self._reason_chars)

    def _chat_frame(self) -> tuple[str, str]:
        """Return the text before and after a user message in the file's chat template."""
        message = {"role": "user", "content": _PLACEHOLDER}
        before, _, after = prompting.chat_text(self.model.info, [message]).partition(_PLACEHOLDER)
        return before, after


def _attempt(task: Task, completion: Completion) -> Attempt:
    columns: dict[str, Any] = {
        "raw_reply": completion.raw_text,
        "finish_reason": completion.finish_reason,
        "structured": "grammar",
        "prompt_tokens": completion.prompt_tokens,
        "completion_tokens": completion.new_tokens,
    }
    if completion.finish_reason == "prompt_too_long":
        error = f"the prompt has {completion.prompt_tokens} tokens, too many for this judge's context"
        return Attempt(task, task.attempt, failed(task, REJECTED, error), columns=columns)
    cut_off = completion.finish_reason == "length"
    verdict = parse_verdict(completion.raw_text, task.template.aspects, cut_off=cut_off)
    return Attempt(task, task.attempt, verdict, columns=columns)
