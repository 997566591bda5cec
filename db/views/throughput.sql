create or replace view main.throughput as
with
cell as (
    select
        run_cell_id, run_id, model_id, gguf_sha256, method, language, settings_id, n_done, n_parallel, gpu_layers, exact,
        prompt_tokens, prefilled_tokens, new_tokens, wall_seconds, prefill_seconds, decode_seconds, peak_rss_bytes,
        ended_at
    from raw.run_cells
    where n_done > 0 and wall_seconds > 0
)
select
    coalesce(model.label, cell.model_id) as model,
    coalesce(file.quantization, 'none') as quantization,
    cell.method,
    cell.language,
    coalesce(model.dpo, false) as dpo,
    cell.n_parallel,
    cell.gpu_layers,
    cell.exact,
    cell.n_done,
    cell.new_tokens,
    cell.prompt_tokens,
    cell.prefilled_tokens,
    cell.wall_seconds,
    cell.new_tokens / cell.wall_seconds as new_tokens_per_second,
    cell.new_tokens / nullif(cell.decode_seconds, 0) as decode_tokens_per_second,
    cell.prefilled_tokens / nullif(cell.prefill_seconds, 0) as prefill_tokens_per_second,
    3600.0 * cell.n_done / cell.wall_seconds as responses_per_hour,
    cell.peak_rss_bytes,
    run.llama_build,
    run.cpu_features,
    cell.ended_at,
    coalesce(cell.settings_id, 'imported') as settings_id,
    cell.run_id,
    cell.run_cell_id as process_id
from cell
left join raw.runs as run on run.run_id = cell.run_id
left join raw.models as model on model.model_id = cell.model_id
left join raw.gguf_files as file on file.gguf_sha256 = cell.gguf_sha256;

comment on view main.throughput is
'One row per cell and process that made responses: tokens per second from the first prompt to the last answer (new_tokens_per_second) and over decoding and prefill alone. prefilled_tokens is less than prompt_tokens if a shared prefix was decoded once.';
