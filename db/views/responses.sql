create or replace view main.responses as
with
response as (
    select
        response_id, cell_id, model_id, gguf_sha256, query_key, settings_id, run_id, method, language, text, raw_text,
        finish_reason, prompt_tokens, new_tokens, tokens_saved, exact, text_language, prompt_id, prompt_sha256,
        source, created_at, answer_rule, end_token
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
joined as (
    select
        response.response_id,
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
        response.exact,
        coalesce(response.settings_id, 'imported') as settings_id,
        response.run_id,
        response.created_at,
        model.variant,
        model.size_class,
        model.parameters,
        file.file_name,
        response.gguf_sha256,
        coalesce(cell.dataset, query.dataset) as dataset,
        query.instruction,
        query.source_set,
        query.difficulty,
        response.query_key,
        response.prompt_id,
        response.prompt_sha256,
        response.tokens_saved,
        response.text_language,
        response.source,
        response.answer_rule,
        response.end_token,
        response.cell_id
    from response
    left join model on model.model_id = response.model_id
    left join file on file.gguf_sha256 = response.gguf_sha256
    left join query on query.query_key = response.query_key
    left join cell on cell.cell_id = response.cell_id
)
select * from joined;

comment on view main.responses is
'One row per response: what was asked, by which model, method and settings, and what came back. quantization is none where no GGUF file made the text; settings_id is imported where another tool made it; task is NULL where unknown. cell_id: see cells.';
