create or replace view main.error_rates as
with
answered as (
    select
        response_id, model, quantization, method, language, dpo, settings_id,
        task is not null as task_known,
        coalesce(list_contains(task, 'coding'), false) as asked_for_code
    from main.responses
    where finish_reason not in ('prompt_too_long', 'error')
),
scanned as (
    select
        answered.model, answered.quantization, answered.method, answered.language, answered.dpo,
        answered.settings_id, critical.error,
        critical.error <> 'unintended_code' or answered.task_known as counted,
        critical.found and not (critical.error = 'unintended_code' and answered.asked_for_code) as failed
    from answered
    join raw.critical_errors as critical on critical.response_id = answered.response_id
),
counts as (
    select
        model, quantization, method, language, dpo, settings_id, error,
        count(*) filter (where counted and failed) as n_errors,
        count(*) filter (where counted) as n
    from scanned
    group by all
)
select
    model, quantization, method, language, dpo, settings_id, error,
    100.0 * n_errors / nullif(n, 0) as percent,
    n_errors,
    n
from counts;

comment on view main.error_rates is
'One row a model, quantization, method, language, dpo, settings_id and error, also at zero. percent of n responses; prompt_too_long and error are not in n. unintended_code: n is the responses whose query has a known task, code where the task is coding is no error. infinite_loop_literal is the literal reading, any sequence repeated more than 5 times.';
