-- $1: icl_local.store.Selection. One row per cell, with model, settings and prompt, for Every Eval Ever.
select
    responses.model,
    responses.variant,
    responses.dpo,
    responses.quantization,
    responses.method,
    responses.language,
    responses.settings_id,
    min(models.registry_name) as registry_name,
    min(responses.parameters) as parameters,
    min(responses.gguf_sha256) as gguf_sha256,
    min(responses.file_name) as file_name,
    string_agg(distinct responses.dataset, ' + ' order by responses.dataset) as dataset,
    count(distinct responses.query_id) as n_queries,
    bool_and(responses.exact) as exact,
    max(responses.created_at) as made_at,
    min(runs.llama_build) as llama_build,
    min(settings.backend) as backend,
    min(settings.max_tokens) as max_tokens,
    min(settings.repetition_penalty) as repetition_penalty,
    min(settings.penalty_rule) as penalty_rule,
    min(settings.kv_type) as kv_type,
    min(prompts.head || '{query}' || prompts.tail) as prompt_template
from main.responses as responses
inner join raw.responses as kept on kept.response_id = responses.response_id
inner join raw.models as models on models.model_id = kept.model_id
left join raw.settings as settings on settings.settings_id = responses.settings_id
left join raw.runs as runs on runs.run_id = responses.run_id
left join raw.prompts as prompts on prompts.prompt_id = responses.prompt_id
where main.selected($1, responses.model, responses.method, responses.language, responses.split, responses.dataset, responses.quantization)
group by
    responses.model, responses.variant, responses.dpo, responses.quantization,
    responses.method, responses.language, responses.settings_id
order by all
