-- State of each submission to the Batch API. It is open until the server's answer has been read.
create or replace view main.judge_batches as
with events as (
    select
        submission_id,
        any_value(judge_id) as judge_id,
        max(batch_id) as batch_id,
        any_value(n_requests) as n_requests,
        any_value(structured) as structured,
        any_value(parameters) as parameters,
        min(created_at) as submitted_at,
        bool_or(event = 'created') as created,
        bool_or(event in ('closed', 'abandoned')) as closed
    from raw.judge_batches
    group by submission_id
)

select
    judges.name as judge,
    events.n_requests,
    events.structured,
    events.parameters,
    case when events.closed then 'closed' when events.created then 'created' else 'prepared' end as state,
    events.submitted_at,
    events.submission_id,
    events.judge_id,
    events.batch_id
from events
inner join raw.judges as judges on judges.judge_id = events.judge_id;

comment on view main.judge_batches is
'One row per submission to the Batch API; state prepared (perhaps not sent) | created (with the server) | closed (read).';
