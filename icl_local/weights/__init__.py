"""Model files and their sources: the registry, the Hugging Face hub, checksums and GGUF headers.

No llama.cpp and no weights are loaded here.
"""

from icl_local.weights.checksum import OnBytes, sha256_of
from icl_local.weights.gguf_file import GgufInfo, read_info, require_same_tokens
from icl_local.weights.registry import CHAT, COMPLETION, ResolvedModel
