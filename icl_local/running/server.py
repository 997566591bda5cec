"""``openai:MODEL@URL``: generation by a server that speaks OpenAI's API: llama-server, Ollama, vLLM, SGLang.

Prompts of base models go to /completions unchanged, queries for instruct models to /chat/completions, where the
server's own chat template applies. A server has its own repetition penalty: the request uses the nearest to the
study's, which is recorded as ``server:...``, never as Transformers' rule. A server also removes the stop string and
does not report its weights, so its rows never count as those of a GGUF file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from icl_local.detect import server_stops
from icl_local.engine import Completion, EngineInfo, EngineOptions, Request, Stats
from icl_local.exceptions import ApiError, ConfigError, EngineError
from icl_local.openai_client import ApiClient, ApiReply, ApiRequest, open_client
from icl_local.prompting import Prompt, Query, Recipe
from icl_local.weights import registry
from icl_local.wording import counted

_TOO_LONG = re.compile(r"context[_ ](length|size|window)|maximum context|too long|exceed_context", re.IGNORECASE)
_REQUEST_SECONDS = 600.0
_LIST_SECONDS = 30.0


@dataclass(frozen=True)
class Penalty:
    """The repetition penalty of one kind of server: the recorded ``rule``, and the ``fields`` of the body.

    A field's value of None stands for the penalty. Without fields the server's default applies.
    """

    rule: str
    fields: Mapping[str, float | None] = field(default_factory=dict)


# By owned_by in /v1/models. llama-server divides or multiplies the logits of the tokens among the last
# repeat_last_n (-1: all of the context); vLLM and SGLang take prompt and answer, as Transformers does; Ollama's
# OpenAI-compatible endpoints take no penalty, the model's Modelfile has one.
PENALTIES = {
    "llamacpp": Penalty("server:llama-server repeat_penalty, all of the context",
                        {"repeat_penalty": None, "repeat_last_n": -1}),
    "vllm": Penalty("server:vllm repetition_penalty", {"repetition_penalty": None}),
    "sglang": Penalty("server:sglang repetition_penalty", {"repetition_penalty": None}),
    "library": Penalty("server:ollama, the model file's own"),
}  # fmt: skip
UNKNOWN = Penalty("server:unknown, its own default")


@dataclass(frozen=True)
class Server:
    """A model at a server; ``kind`` is the reported software (llamacpp, vllm, library for Ollama, ...)."""

    client: ApiClient
    kind: str

    @property
    def penalty(self) -> Penalty:
        """Return the repetition penalty of this kind of server."""
        return PENALTIES.get(self.kind, UNKNOWN)

    def settings(self, repetition_penalty: float) -> dict[str, object]:
        """Return columns of raw.settings: the requested values, NULL if the server has no such option."""
        return {
            "backend": "openai",
            "repetition_penalty": repetition_penalty if self.penalty.fields else None,
            "penalty_rule": self.penalty.rule,
            "kv_type": None,
            "chat_date": None,
        }

    def named(self, name: str, *, method_kind: str, dpo: bool = False) -> ServerModel:
        """Return the model under ``name``; a registry entry of that name gives its label, for the tables."""
        family = registry.load_registry().get(name)
        return ServerModel(
            server=self,
            label=family.label if family else name,
            variant=registry.variant_of(method_kind),
            dpo=dpo,
            registry_name=family.name if family else None,
            parameters=family.parameters if family else None,
        )


@dataclass(frozen=True, kw_only=True)
class ServerModel(registry.NamedModel):
    """A server's model in the place of a model file (registry.ResolvedModel)."""

    server: Server
    sha256 = None

    @property
    def path(self) -> Path:
        """Return a path that sorts models of one server side by side."""
        return Path(self.weights)

    @property
    def weights(self) -> str:
        """Return a stand-in for the hash of the weights in a response's key, which a server does not report."""
        return f"openai:{self.server.client.model}@{self.server.client.base_url}"

    def prompt(self, query: Query, recipe: Recipe) -> Prompt:
        """Return the prompt of a query; for a chat method only the query, because the server applies the template.

        Raises ConfigError for a method with a system message, which would change the recorded prompt's form.
        """
        method = recipe.method
        if method.kind != registry.CHAT:
            return recipe.prompt(query)
        if method.system is not None:
            raise ConfigError(
                f"method {method.name} has a system message; with --backend use a chat method without one"
            )
        return Prompt(query.instruction, "", "", (), method.name, recipe.language)


class ServerGenerator:
    """Completions from a server; transient failures are retried, the rest is left to the next run.

    The one refusal that is stored is that of a prompt longer than the server's context.
    """

    def __init__(self, model: ServerModel, *, parallel: int | None = None) -> None:
        server = model.server
        self.options = EngineOptions(parallel=parallel)
        self.info = EngineInfo(llama_build=f"server:{server.kind}")
        self.stats = Stats()
        self._model = model

    def generate(
        self,
        requests: Sequence[Request],
        *,
        on_progress: Callable[[int], None] | None = None,
        **_overrides: Any,
    ) -> Iterator[Completion]:
        """Yield completions in any order. Raises EngineError if the server cannot continue, or if requests failed."""
        client, fields = self._model.server.client, self._model.server.penalty.fields
        chat = self._model.variant == "instruct"
        api_requests = (
            ApiRequest(
                request.id,
                messages=({"role": "user", "content": request.prompt},) if chat else (),
                prompt=None if chat else request.prompt,
                max_tokens=request.max_tokens,
                stops=tuple(server_stops(request.stops)),
                extra={name: request.repetition_penalty if value is None else value for name, value in fields.items()},
                may_be_empty=True,
            )
            for request in requests
        )
        self.stats = Stats()
        failed = []
        try:
            for replies in client.run(api_requests):
                for reply in replies:
                    if not reply.final:
                        continue
                    too_long = reply.outcome == "rejected" and _TOO_LONG.search(reply.error or "")
                    if reply.outcome != "reply" and not too_long:
                        failed.append(reply.error or "no answer")
                        continue
                    completion = _completion(reply, chat=chat)
                    self.stats.n_done += 1
                    self.stats.new_tokens += completion.new_tokens
                    self.stats.prompt_tokens += completion.prompt_tokens
                    yield completion
                if on_progress is not None:
                    on_progress(self.stats.new_tokens)
        except ApiError as error:
            raise EngineError(str(error)) from error
        if failed:
            raise EngineError(f"{counted(len(failed), 'request')} failed ({failed[-1]}); the same command retries them")


def open_server(spec: str, *, parallel: int | None = None) -> Server:
    """Open the server in ``openai:MODEL[@URL]`` and list its models; OPENAI_BASE_URL where no URL is given.

    Raises ConfigError for another form, ApiError if the server does not answer or lacks the model.
    """
    client = open_client(spec, option="--backend", concurrency=parallel, timeout=_REQUEST_SECONDS)
    listed = client.call(lambda api: list(api.models.list(timeout=_LIST_SECONDS)), max_attempts=1)
    owners = {model.id: str(getattr(model, "owned_by", "")) for model in listed}
    if client.model not in owners and len(owners) > 1:
        raise ApiError(f"{client.base_url} has no {client.model!r}, only {', '.join(sorted(owners)[:8])}")
    # a server of one model (llama-server) accepts any name
    return Server(client, owners.get(client.model) or next(iter(owners.values()), "unknown"))


def _completion(reply: ApiReply, *, chat: bool) -> Completion:
    reason = "length" if reply.finish_reason == "length" else "eog" if chat else "stop"
    if reply.outcome == "rejected":
        reason = "prompt_too_long"
    return Completion(
        reply.id,
        reply.text or reply.refusal or "",
        reason,
        prompt_tokens=reply.prompt_tokens or 0,
        new_tokens=reply.completion_tokens or 0,
    )
