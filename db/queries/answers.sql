-- $1: icl_local.store.Selection; $2: query id. One row per response, and one row for a query without responses.
with
found as (
    select
        response_id,
        list(error order by error) as errors
    from raw.critical_errors
    where found
    group by response_id
)
select
    queries.dataset,
    queries.query_id,
    queries.language,
    queries.split,
    queries.task,
    queries.instruction,
    responses.response_id,
    responses.model,
    responses.quantization,
    responses.dpo,
    responses.method,
    responses.settings_id,
    responses.finish_reason,
    responses.new_tokens,
    responses.text,
    found.errors,
    prompts.head,
    prompts.tail
from raw.queries as queries
left join main.responses as responses
    on
        responses.query_key = queries.query_key
        and main.selected(
            $1, responses.model, responses.method, responses.language, responses.split, responses.dataset,
            responses.quantization
        )
left join found on found.response_id = responses.response_id
left join raw.prompts as prompts on prompts.prompt_id = responses.prompt_id
where
    queries.query_id = $2
    and ($1['dataset'] is null or list_contains($1['dataset'], queries.dataset))
    and ($1['language'] is null or list_contains($1['language'], queries.language))
    and ($1['split'] is null or list_contains($1['split'], queries.split))
order by
    queries.dataset, queries.language, queries.query_key, responses.method, responses.model, responses.dpo,
    responses.quantization, responses.settings_id, responses.response_id
