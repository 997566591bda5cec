-- Settings probed for a file with one llama.cpp build on one kind of CPU, the best first.
select settings, exact, parallel, detail ->> 'failure' as failure
from main.probes
where gguf_sha256 = ? and llama_build = ? and cpu_features = ?
order by exact desc, n_prompts * n_tokens desc, tokens_per_second desc
