-- $1: judge_id. Judgments of one judge at the Batch API that have not been read.
select
    batches.submission_id, batches.batch_id, batches.state, batches.structured, batches.parameters,
    items.judgment_id, items.attempt, items.response_id, items.template_sha256, items.repeat
from main.judge_batches as batches
inner join raw.judge_batch_items as items on items.submission_id = batches.submission_id
where batches.judge_id = $1 and batches.state <> 'closed'
order by batches.submitted_at, batches.submission_id
