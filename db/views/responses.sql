create or replace view main.responses as
with
response as (
    select
        response_id, cell_id, model_id, gguf_sha256, query_key, settings_id, run_id, method, language, text, raw_text,
        finish_reason, prompt_tokens, new_tokens, tokens_saved, exact, text_language, prompt_id, prompt_sha256,
        source, created_at, answer_rule, end_token, draw_seed, draw
    from raw.responses
),
model as (
    select model_id, label, variant, dpo, size_class, parameters from raw.models
),
file as (
    select gguf_sha256, file_name, quantization from raw.gguf_files
),
query as (
    select query_key, dataset, query_id, split, task, topic, source_set, difficulty, instruction from raw.queries
),
cell as (
    select cell_id, dataset from raw.cells
),
refuted as (
    select distinct gguf_sha256, llama_build, cpu_features, main.kernel_settings(settings) as settings
    from raw.verifications
    where not equal and llama_build = verified_build and cpu_features = verified_cpu_features
),
inexact as (
    select distinct run_cells.run_id, run_cells.cell_id
    from refuted
    inner join raw.run_cells as run_cells on run_cells.gguf_sha256 = refuted.gguf_sha256
    inner join raw.runs as runs
        on runs.run_id = run_cells.run_id
        and runs.llama_build = refuted.llama_build
        and runs.cpu_features = refuted.cpu_features
    where main.kernel_settings(run_cells.engine_settings) is not distinct from refuted.settings
),
joined as (
    select
        coalesce(model.label, response.model_id) as model,
        coalesce(file.quantization, 'none') as quantization,
        response.method,
        response.language,
        coalesce(model.dpo, false) as dpo,
        query.query_id,
        query.split,
        query.task,
        query.topic,
        response.text,
        response.raw_text,
        response.finish_reason,
        response.prompt_tokens,
        response.new_tokens,
        case when inexact.cell_id is not null then false else response.exact end as exact,
        response.created_at,
        model.variant,
        model.size_class,
        model.parameters,
        file.file_name,
        coalesce(cell.dataset, query.dataset) as dataset,
        query.instruction,
        query.source_set,
        query.difficulty,
        response.tokens_saved,
        response.text_language,
        response.source,
        response.answer_rule,
        response.end_token,
        coalesce(response.draw, 0) as draw,
        response.draw_seed,
        response.response_id,
        coalesce(response.settings_id, 'imported') as settings_id,
        response.run_id,
        response.gguf_sha256,
        response.query_key,
        response.prompt_id,
        response.prompt_sha256,
        response.cell_id
    from response
    left join model on model.model_id = response.model_id
    left join file on file.gguf_sha256 = response.gguf_sha256
    left join query on query.query_key = response.query_key
    left join cell on cell.cell_id = response.cell_id
    left join inexact on inexact.run_id = response.run_id and inexact.cell_id = response.cell_id
)
select * from joined;

comment on view main.responses is
'One row per response: what was asked, by which model, method and settings, and what came back. quantization is none where no GGUF file made the text; settings_id is imported where another tool made it; task is NULL where unknown. exact: the probe found no difference between batches and one at a time for these settings, and no verified response differs (view exactness); NULL where neither applies. draw: 0 for a greedy response, from 1 for sampled ones. cell_id: see cells.';
