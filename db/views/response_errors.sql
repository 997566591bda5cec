create or replace view main.response_errors as
with
queries as (
    select
        rowid as query, query_id,
        task is not null as task_known,
        coalesce(list_contains(task, 'coding'), false) as asked_for_code
    from raw.queries
),
-- rows of an earlier detector are not pooled with those of the latest; icl errors --redetect brings them up
latest as (
    select arg_max(detector_version, try_cast(string_split(detector_version, '.') as integer[])) as detector_version
    from (select distinct detector_version from raw.critical_errors)
),
cell as (
    select rowid as cell, cell_id, dataset, main.sampled(settings_id) as sampled from raw.cells
),
outcomes as (
    select
        critical.response_id, critical.error, critical.found,
        -- a subquery, not a join: answers are filtered before they are looked up for every error
        (select answer from main.answers as answers where answers.response_id = critical.response_id) as answer
    from raw.critical_errors as critical
    where critical.detector_version = (select detector_version from latest)
)
select
    cell.dataset, queries.query_id, outcomes.error,
    outcomes.found and not (outcomes.error = 'unintended_code' and queries.asked_for_code) as failed,
    outcomes.response_id, cell.cell_id,
    case when cell.sampled then main.query_of(outcomes.answer) end as drawn_query
from outcomes
join cell on cell.cell = main.cell_of(outcomes.answer)
left join queries on queries.query = main.query_of(outcomes.answer)
where outcomes.error <> 'unintended_code' or queries.task_known;

comment on view main.response_errors is
'One row per response and error that it counts for: failed is true if the response has the error. Responses that are prompt_too_long or error do not count, nor those that only an earlier version of the detectors has scanned (`icl errors --redetect` scans them); for unintended_code the query''s task must be known, and code where the task is coding is not an error. drawn_query: a number of the query where it may have several draws, NULL for greedy responses. Model, method and the like: join cells using (cell_id).';
