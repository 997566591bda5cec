-- $1: query id; $2 to $5: data set, language, model, method, NULL takes all. One row per response, and one row for a
-- query without responses.
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
        and ($4::varchar is null or responses.model = $4)
        and ($5::varchar is null or responses.method = $5)
left join found on found.response_id = responses.response_id
left join raw.prompts as prompts on prompts.prompt_id = responses.prompt_id
where
    queries.query_id = $1
    and ($2::varchar is null or queries.dataset = $2)
    and ($3::varchar is null or queries.language = $3)
order by
    queries.dataset, queries.language, queries.query_key, responses.method, responses.model, responses.dpo,
    responses.quantization, responses.settings_id, responses.response_id
