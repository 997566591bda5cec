"""An OpenAI-compatible server, many requests at a time: bounded retries, adaptive concurrency, no secrets."""

from icl_local.openai_client.client import ApiClient, is_transient, public_url
from icl_local.openai_client.protocol import ApiReply, ApiRequest, Dialect

__all__ = ["ApiClient", "ApiReply", "ApiRequest", "Dialect", "is_transient", "public_url"]
