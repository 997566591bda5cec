create or replace view main.responses as
with
response as (
    select
        response_id, model_id, gguf_sha256, query_key, settings_id, run_id, method, language, text, raw_text,
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
described as (
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
        query.dataset,
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
        response.end_token
    from response
    left join model on model.model_id = response.model_id
    left join file on file.gguf_sha256 = response.gguf_sha256
    left join query on query.query_key = response.query_key
)
-- grouping millions of rows by one number is three times as fast as by six names
select *, hash(model, quantization, method, language, dpo, settings_id) as cell_id
from described;

comment on view main.responses is
'One row per response: the query, the model, method and settings, and the text. quantization is none if no GGUF file made the text; settings_id is imported if another tool made it; task is NULL if unknown. cell_id stands for model, quantization, method, language, dpo and settings_id together (see cells).';
