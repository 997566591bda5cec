"""Language models as translators: ``openai:MODEL`` at an OpenAI-compatible server, ``local:GGUF`` on our engine.

Both use prompts/translate.txt, or translate.<language>.txt of a user's folder; its hash is part of a candidate's key.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from icl_local import prompting, resources
from icl_local.engine import Completion, EngineOptions, OpenWorker, Request, Worker
from icl_local.exceptions import InputError
from icl_local.identity import sha256_text
from icl_local.openai_client import ApiClient, ApiReply, ApiRequest
from icl_local.translate.runner import Job, Output
from icl_local.weights import ResolvedModel

LEAST_TOKENS = 256  # of a reply; a longer source gets one per byte, more than any translation takes

_PLACEHOLDER = re.compile(r"\$\{(source_language|language|text)\}")
_TAGS = re.compile(r"\A\s*<text>\n?(.*?)\n?</text>\s*\Z", re.DOTALL)
_FENCE = re.compile(r"\A```\w*\n(.*?)\n?```\Z", re.DOTALL)
_QUOTES = (('"', '"'), ("“", "”"), ("«", "»"))


class TranslationPrompt:
    """The prompt for a translation between two languages. Raises UnknownName, InputError."""

    def __init__(self, *, source: str, target: str, overlay: Path | None = None) -> None:
        name = f"translate.{target}.txt"
        own = overlay is not None and (overlay / name).is_file()
        self.file = name if own else "translate.txt"
        self._template = resources.read_text("prompts", self.file, overlay=overlay)
        self._names = {
            "source_language": prompting.language_spec(source, overlay=overlay).name,
            "language": prompting.language_spec(target, overlay=overlay).name,
        }
        if "${text}" not in self._template:
            raise InputError(f"{self.file}: has no ${{text}}; insert it")

    @property
    def sha256(self) -> str:
        """Return 64 hex digits of the prompt with the languages filled in."""
        return sha256_text(self._fill("${text}"))

    def messages(self, text: str) -> tuple[dict[str, str], ...]:
        """Return the chat that requests the translation of ``text``."""
        return ({"role": "user", "content": self._fill(text)},)

    def _fill(self, text: str) -> str:
        values = {**self._names, "text": text}
        return _PLACEHOLDER.sub(lambda found: values[found[1]], self._template)


class ApiEngine:
    """A model of ``client`` at temperature 0. A request that the server rejects becomes an empty candidate."""

    def __init__(self, client: ApiClient, prompt: TranslationPrompt) -> None:
        self.client = client
        self._prompt = prompt

    @property
    def name(self) -> str:
        """Return the name that is stored and shown."""
        return f"openai:{self.client.model}"

    @property
    def settings(self) -> dict[str, object]:
        """Return model, base URL (without credentials), prompt and temperature."""
        return {
            "backend": "openai",
            "model": self.client.model,
            "base_url": self.client.base_url,
            "prompt_sha256": self._prompt.sha256,
            "temperature": 0.0,
        }

    def translate(self, jobs: Sequence[Job]) -> Iterator[list[Output]]:
        """Yield outputs as the server replies. Raises ApiError if it cannot continue."""
        sources = {job.id: job.text for job in jobs}
        requests = (
            ApiRequest(id=job.id, messages=self._prompt.messages(job.text), max_tokens=_max_tokens(job.text))
            for job in jobs
        )
        for replies in self.client.run(requests):
            yield [_api_output(reply, sources[reply.id]) for reply in replies if reply.final]


class LocalEngine:
    """An instruct GGUF file: greedy, without a repetition penalty, which would penalise the words of the source.

    ``open_worker`` starts the engine: a process on this machine, or a cluster's.
    """

    def __init__(
        self,
        model: ResolvedModel,
        prompt: TranslationPrompt,
        *,
        options: EngineOptions | None = None,
        open_worker: OpenWorker | None = None,
    ) -> None:
        self.model = model
        self.open_worker = open_worker or (lambda model, options: Worker(model.path, options))
        self._prompt = prompt
        self._options = (options or EngineOptions()).replace(stop_on_loop=True)

    @property
    def name(self) -> str:
        """Return the name that is stored and shown, without the folders of a path."""
        return f"local:{self.model.registry_name or self.model.path.name}"

    @property
    def settings(self) -> dict[str, object]:
        """Return weights, prompt and decoding."""
        return {
            "backend": "local",
            "weights": self.model.sha256,
            "prompt_sha256": self._prompt.sha256,
            "repetition_penalty": 1.0,
            "kv_type": self._options.kv_type or "auto",
            "stop_on_loop": True,
        }

    def translate(self, jobs: Sequence[Job]) -> Iterator[list[Output]]:
        """Yield outputs one by one. Raises EngineError."""
        sources = {job.id: job.text for job in jobs}
        with self.open_worker(self.model, self._options) as worker:
            for completion in worker.generate([self._request(job) for job in jobs]):
                yield [_local_output(completion, sources[completion.id])]

    def _request(self, job: Job) -> Request:
        text = prompting.chat_text(self.model.info, self._prompt.messages(job.text))
        return Request(id=job.id, prompt=text, max_tokens=_max_tokens(job.text), repetition_penalty=1.0)


def clean_reply(reply: str, source: str) -> str:
    """Return the translation in a reply, without the prompt's tags and without a fence or quotes not in the source."""
    text = reply.strip()
    if (found := _TAGS.match(text)) is not None:
        text = found[1].strip()
    if (found := _FENCE.match(text)) is not None and "```" not in source:
        text = found[1].strip()
    begin, end = source.strip()[:1], source.strip()[-1:]
    for left, right in _QUOTES:
        quoted = len(text) > 1 and text.startswith(left) and text.endswith(right)
        if quoted and not (begin in '"“«' and end in '"”»') and left not in text[1:-1] and right not in text[1:-1]:
            return text[1:-1].strip()
    return text


def _max_tokens(source: str) -> int:
    return max(LEAST_TOKENS, len(source.encode("utf-8", "replace")))


def _api_output(reply: ApiReply, source: str) -> Output:
    if reply.outcome in ("failed", "quota"):
        return Output(reply.id, "", failed=True, error=reply.error)
    refusal = reply.refusal if reply.outcome == "reply" else None
    finish = "refused" if refusal else "rejected" if reply.outcome == "rejected" else reply.finish_reason or "stop"
    return Output(
        reply.id,
        refusal or clean_reply(reply.text or "", source),
        finish,
        error=reply.error,
        prompt_tokens=reply.prompt_tokens,
        completion_tokens=reply.completion_tokens,
        cost_usd=reply.cost_usd,
    )


def _local_output(completion: Completion, source: str) -> Output:
    error = None
    if completion.finish_reason == "prompt_too_long":
        error = f"the prompt has {completion.prompt_tokens} tokens, too many for this model's context"
    return Output(
        completion.id,
        clean_reply(completion.raw_text, source),
        completion.finish_reason,
        error=error,
        prompt_tokens=completion.prompt_tokens,
        completion_tokens=completion.new_tokens,
    )
