"""A chat model in a GGUF file, with the interface of ApiClient: judges and translators are written once for both."""

from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import groupby
from typing import Any

from icl_local import prompting
from icl_local.engine import Completion, EngineOptions, OpenWorker, Request, Worker
from icl_local.exceptions import ModelError
from icl_local.openai_client import ApiClient, ApiReply, ApiRequest, open_client
from icl_local.running.grammar import grammar_of
from icl_local.weights import OnBytes, ResolvedModel, registry


class LocalChat:
    """An instruct GGUF file: greedy, without a repetition penalty, which would penalise the words of the prompt.

    ``open_worker`` starts the engine: a process on this machine, or a cluster's. ``name`` is stored and shown,
    ``identity`` is the part of a key that stands for the model, ``decoding`` are the settings that change a reply.
    """

    price = None

    def __init__(
        self, model: ResolvedModel, *, options: EngineOptions | None = None, open_worker: OpenWorker | None = None
    ) -> None:
        self.model = model
        self.options = options or EngineOptions()
        self.open_worker = open_worker or (lambda model, options: Worker(model.path, options))
        self.name = f"local:{model.name}"  # without the folders of a path
        self.identity: dict[str, object] = {"backend": "local", "weights": model.sha256}
        stops = {"stop_on_loop": True} if self.options.stop_on_loop else {}
        self.decoding: dict[str, object] = {
            "repetition_penalty": 1.0, "kv_type": self.options.kv_type or "auto", **stops,
        }  # fmt: skip

    def run(self, requests: Iterable[ApiRequest]) -> Iterator[list[ApiReply]]:
        """Yield one reply per request; those of a group, which begin alike, share a prefix. Raises EngineError."""
        with closing(self.open_worker(self.model, self.options)) as worker:
            for _, group in groupby(sorted(requests, key=lambda one: one.group), key=lambda one: one.group):
                by_id = {one.id: one for one in group}
                for completion in worker.generate([self.request(one) for one in by_id.values()]):
                    yield [_reply(completion, by_id[completion.id])]

    def request(self, chat: ApiRequest) -> Request:
        """Return a request as the engine takes it; a grammar holds the reply to the schema, if there is one.

        Control tokens in the last message, which quotes queries and answers, are read as text. Raises ModelError for a
        chat template that changes the message.
        """
        text = prompting.chat_text(self.model.info, chat.messages)
        message = chat.messages[-1]["content"].strip()
        at = text.rfind(message)
        if at < 0:
            raise ModelError(f"the chat template of {self.name} changes the message; choose another model")
        plain = at, at + len(message)
        grammar = None if chat.schema is None else grammar_of(chat.schema)
        most, rules = (chat.max_tokens, None) if grammar is None else (grammar.max_tokens, grammar.text)
        return Request(chat.id, text, most, repetition_penalty=1.0, grammar=rules, plain=plain)


def open_chat(
    name: str,
    *,
    option: str,
    others: str,
    options: EngineOptions,
    open_worker: OpenWorker | None = None,
    on_download: OnBytes | None = None,
    **server: Any,
) -> ApiClient | LocalChat:
    """Open openai:MODEL[@URL], or local:FILE with a GGUF file or a model's name; ``server`` is for the first.

    Raises ConfigError, which names ``option`` and its ``others``, ApiError without a key, ModelError.
    """
    kind, _, file = name.partition(":")
    if kind == "local" and file:
        model = registry.resolve(file, method_kind=registry.CHAT, on_progress=on_download)
        return LocalChat(model, options=options, open_worker=open_worker)
    return open_client(name, option=option, others=others, **server)


def _reply(completion: Completion, chat: ApiRequest) -> ApiReply:
    too_long = completion.finish_reason == "prompt_too_long"
    error = f"the prompt has {completion.prompt_tokens} tokens, too many for this model's context"
    return ApiReply(
        completion.id,
        1,
        "rejected" if too_long else "reply",
        text=completion.raw_text,
        finish_reason=completion.finish_reason,
        error=error if too_long else None,
        structured=None if chat.schema is None else "grammar",
        prompt_tokens=completion.prompt_tokens,
        completion_tokens=completion.new_tokens,
        probabilities=completion.probabilities,
    )
