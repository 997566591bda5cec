"""Any OpenAI-compatible server, many requests at a time.

Bounded retries, adaptive concurrency, prices and budgets; no secrets in what is stored.
"""

from icl_local.openai_client.client import ApiClient, is_transient, open_client, parse_name
from icl_local.openai_client.prices import Budget
from icl_local.openai_client.protocol import ApiReply, ApiRequest
