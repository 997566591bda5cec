create or replace view main.probes as
select
    coalesce(file.file_name, probe.gguf_sha256) as file_name,
    file.quantization,
    probe.exact,
    probe.settings,
    probe.parallel,
    probe.tokens_per_second,
    probe.n_prompts,
    probe.n_tokens,
    probe.llama_build,
    probe.cpu_features,
    probe.detail,
    probe.created_at,
    probe.gguf_sha256
from raw.probes as probe
left join raw.gguf_files as file on file.gguf_sha256 = probe.gguf_sha256;

comment on view main.probes is
'One row per file, llama.cpp build, machine, candidate setting and size of the probe: whether batching changed a logit there, and the batch size that was fastest. detail names the cases compared, the first difference and the rate of every batch size.';
