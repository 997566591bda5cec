create or replace view main.response_errors as
with
answered as (
    select
        response_id, model, quantization, method, language, dpo, settings_id, dataset, query_id,
        task is not null as task_known,
        coalesce(list_contains(task, 'coding'), false) as asked_for_code
    from main.responses
    where finish_reason not in ('prompt_too_long', 'error')
)
select
    answered.response_id, answered.model, answered.quantization, answered.method, answered.language, answered.dpo,
    answered.settings_id, answered.dataset, answered.query_id,
    critical.error,
    critical.found and not (critical.error = 'unintended_code' and answered.asked_for_code) as failed
from answered
join raw.critical_errors as critical on critical.response_id = answered.response_id
where critical.error <> 'unintended_code' or answered.task_known;

comment on view main.response_errors is
'One row a response and error that it counts for: failed says whether it has the error. Responses that are prompt_too_long or error do not count; for unintended_code the query''s task must be known, and code where the task is coding is no error.';
