-- Verdicts that stand: only an attempt that ended for good has rows in raw.scores, the last of them counts.
create or replace view main.scores as
with standing as (
    select judgment_id, max(attempt) as attempt
    from raw.scores
    group by judgment_id
)

select
    judgments.response_id,
    judgments.judge_id,
    judges.name as judge,
    judgments.template_sha256,
    templates.name as template,
    judgments.repeat,
    judgments.judgment_id,
    judgments.attempt,
    judgments.status,
    scores.metric,
    scores.score,
    scores.not_applicable,
    scores.reason
from standing
inner join raw.scores as scores on scores.judgment_id = standing.judgment_id and scores.attempt = standing.attempt
inner join raw.judgments as judgments
    on judgments.judgment_id = standing.judgment_id and judgments.attempt = standing.attempt
inner join raw.judges as judges on judges.judge_id = judgments.judge_id
left join raw.judge_templates as templates on templates.template_sha256 = judgments.template_sha256;

comment on view main.scores is
'One row a response, judge, template, repeat and aspect: the verdict that stands. score is NULL where the judge gave none.';
