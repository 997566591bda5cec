-- Results of probes of a file with one llama.cpp build on one kind of CPU.
select settings, exact, n_prompts, n_tokens, tokens_per_second, parallel, detail, created_at
from main.probes
where gguf_sha256 = ? and llama_build = ? and cpu_features = ?
