-- $1: judge_id of a human rater; $2: sample_id. Attempts on the sample's answers, in their order.
select
    judgment.judgment_id, judgment.attempt, judgment.status, judgment.scores, judgment.not_applicable,
    judgment.reasons, judgment.parameters ->> '$.undoes' as undoes, judgment.created_at
from raw.judgments as judgment
join raw.sample_items as item on item.sample_id = $2 and item.response_id = judgment.response_id
where judgment.judge_id = $1
order by judgment.created_at, judgment.attempt, judgment.judgment_id
