"""Language models as translators: ``openai:MODEL`` at an OpenAI-compatible server, ``local:GGUF`` on our engine.

Both use prompts/translate.txt, or translate.<language>.txt of a user's folder; its hash is part of a candidate's key.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from icl_local import prompting, resources
from icl_local.exceptions import InputError
from icl_local.identity import sha256_text
from icl_local.openai_client import ApiClient, ApiReply, ApiRequest
from icl_local.running import LocalChat

LEAST_TOKENS = 256  # of a reply; a longer source gets one per byte, more than any translation takes

_PLACEHOLDER = re.compile(r"\$\{(source_language|language)\}")
_TAGS = re.compile(r"\A\s*<text>\n?(.*?)\n?</text>\s*\Z", re.DOTALL)
_FENCE = re.compile(r"\A```\w*\n(.*?)\n?```\Z", re.DOTALL)
_QUOTES = (('"', '"'), ("“", "”"), ("«", "»"))


def translation_prompt(*, source: str, target: str, overlay: Path | None = None) -> str:
    """Return the prompt for a translation between two languages, with ``${text}``. Raises UnknownName, InputError."""
    name = f"translate.{target}.txt"
    own = overlay is not None and (overlay / name).is_file()
    file = name if own else "translate.txt"
    template = resources.read_text("prompts", file, overlay=overlay)
    if "${text}" not in template:
        raise InputError(f"{file}: has no ${{text}}; insert it")
    languages = {"source_language": source, "language": target}
    names = {key: prompting.language_spec(code, overlay=overlay).name for key, code in languages.items()}
    return _PLACEHOLDER.sub(lambda found: names[found[1]], template)


class ChatEngine:
    """A chat model as translator, by a ``prompt`` with ``${text}``. A request that it rejects is an empty candidate.

    ``settings``: model, prompt and decoding.
    """

    def __init__(self, client: ApiClient | LocalChat, prompt: str) -> None:
        self.name = client.name
        self.settings = {**client.identity, "prompt_sha256": sha256_text(prompt), **client.decoding}
        self._client = client
        self._prompt = prompt

    def translate(self, texts: Mapping[str, str]) -> Iterator[list[ApiReply]]:
        """Yield replies to the texts by id, as the model gives them. Raises ApiError or EngineError at the end."""
        requests = (
            ApiRequest(
                key,
                messages=({"role": "user", "content": self._prompt.replace("${text}", text)},),
                max_tokens=max(LEAST_TOKENS, len(text.encode("utf-8", "replace"))),
            )
            for key, text in texts.items()
        )
        for replies in self._client.run(requests):
            yield [_translation(reply, texts[reply.id]) for reply in replies if reply.final]


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


def _translation(reply: ApiReply, source: str) -> ApiReply:
    """Return the reply with the translation alone as its text, and a reason of its end."""
    if reply.outcome == "rejected":
        return replace(reply, text="", finish_reason=reply.finish_reason or "rejected")
    if reply.refusal:
        return replace(reply, text=reply.refusal, finish_reason="refused")
    return replace(reply, text=clean_reply(reply.text or "", source), finish_reason=reply.finish_reason or "stop")
