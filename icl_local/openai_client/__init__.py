"""An OpenAI-compatible server, many requests at a time: bounded retries, adaptive concurrency, no secrets."""

from icl_local.openai_client.client import ApiClient, public_url
from icl_local.openai_client.protocol import ApiReply, ApiRequest, Dialect

__all__ = ["ApiClient", "ApiReply", "ApiRequest", "Dialect", "public_url"]
