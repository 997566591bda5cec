create or replace view main.judgeable_responses as
select
    responses.response_id,
    models.label as model,
    models.registry_name,
    responses.method,
    responses.language,
    models.dpo,
    queries.split,
    queries.query_id,
    queries.instruction,
    responses.text,
    responses.created_at
from raw.responses as responses
inner join raw.models as models on models.model_id = responses.model_id
inner join raw.queries as queries on queries.query_key = responses.query_key
where responses.finish_reason not in ('error', 'prompt_too_long');

comment on view main.judgeable_responses is 'One row a response that has a text, with its query: what a judge can be asked about.';
