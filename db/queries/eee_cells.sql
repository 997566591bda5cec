-- $1: icl_local.store.Selection. One row per cell, with model, settings and prompt, for Every Eval Ever.
select
    responses.cell_id,
    any_value(cells.weights) as weights,
    any_value(responses.dataset) as dataset,
    any_value(responses.model) as model,
    any_value(responses.variant) as variant,
    any_value(responses.dpo) as dpo,
    any_value(responses.quantization) as quantization,
    any_value(responses.method) as method,
    any_value(responses.language) as language,
    any_value(responses.settings_id) as settings_id,
    any_value(models.registry_name) as registry_name,
    any_value(responses.parameters) as parameters,
    any_value(responses.gguf_sha256) as gguf_sha256,
    any_value(responses.file_name) as file_name,
    count(distinct responses.query_id) as n_queries,
    bool_and(responses.exact) as exact,
    max(responses.created_at) as made_at,
    string_agg(distinct runs.llama_build, ', ' order by runs.llama_build) as llama_build,
    any_value(settings.backend) as backend,
    any_value(settings.max_tokens) as max_tokens,
    any_value(settings.repetition_penalty) as repetition_penalty,
    any_value(settings.penalty_rule) as penalty_rule,
    any_value(settings.kv_type) as kv_type,
    coalesce(any_value(settings.temperature), 0) as temperature,
    any_value(settings.top_p) as top_p,
    any_value(settings.min_p) as min_p,
    any_value(prompts.head || '{query}' || prompts.tail) as prompt_template
from main.responses as responses
inner join raw.responses as kept on kept.response_id = responses.response_id
inner join raw.models as models on models.model_id = kept.model_id
left join raw.cells as cells on cells.cell_id = responses.cell_id
left join raw.settings as settings on settings.settings_id = responses.settings_id
left join raw.runs as runs on runs.run_id = responses.run_id
left join raw.prompts as prompts on prompts.prompt_id = responses.prompt_id
where main.selected($1, responses.model, responses.method, responses.language, responses.split, responses.dataset, responses.quantization)
group by responses.cell_id
order by dataset, model, variant, dpo, quantization, method, language, settings_id, cell_id
