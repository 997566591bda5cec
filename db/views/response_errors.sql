create or replace view main.response_errors as
with
answered as (
    select
        response_id,
        {
            'cell_id': cell_id,
            'dataset': dataset,
            'query_id': query_id,
            'task_known': task is not null,
            'asked_for_code': coalesce(list_contains(task, 'coding'), false)
        } as answer
    from main.responses
    where main.answered(finish_reason)
),
-- rows of an earlier detector are not pooled with those of the latest; icl errors --redetect brings them up
latest as (
    select arg_max(detector_version, try_cast(string_split(detector_version, '.') as integer[])) as detector_version
    from (select distinct detector_version from raw.critical_errors)
),
outcomes as (
    select
        critical.response_id, critical.error, critical.found,
        -- a subquery, not a join: answers are filtered before they are looked up for every error
        (select answer from answered where answered.response_id = critical.response_id) as answer
    from raw.critical_errors as critical
    where critical.detector_version = (select detector_version from latest)
)
select
    answer.dataset, answer.query_id, error,
    found and not (error = 'unintended_code' and answer.asked_for_code) as failed,
    response_id, answer.cell_id
from outcomes
where answer is not null and (error <> 'unintended_code' or answer.task_known);

comment on view main.response_errors is
'One row per response and error that it counts for: failed is true if the response has the error. Responses that are prompt_too_long or error do not count, nor those that only an earlier version of the detectors has scanned (`icl errors --redetect` scans them); for unintended_code the query''s task must be known, and code where the task is coding is not an error. Model, method and the like: join cells using (cell_id).';
