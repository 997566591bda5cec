create or replace view main.rater_influence as
with
totals as (
    select
        *,
        (sum(label) over item - label) / (count(*) over item - 1) as others
    from main.sample_labels
    window item as (partition by sample_id, response_id, metric)
    qualify count(*) over item > 1
),
judged as (
    select
        totals.*, score.judge, score.template, score.judge_id as scored_by, score.template_sha256 as scored_with,
        avg(score.score) as score
    from totals
    join main.scores as score on score.response_id = totals.response_id and score.metric = totals.metric
    join raw.judges as judges on judges.judge_id = score.judge_id and judges.backend <> 'human'
    where score.score is not null
    group by all
)
select
    sample, language, metric, rater, judge, template,
    count(*) as n,
    corr(label, others) as r,
    avg(abs(label - others)) as mean_absolute_error,
    avg(label - others) as severity,
    corr(score, others) as judge_r,
    avg(abs(score - others)) as judge_mean_absolute_error,
    judge_id as rater_id, scored_by as judge_id, scored_with as template_sha256
from judged
group by all;

comment on view main.rater_influence is
'One row per sample, language, aspect, human rater, judge and template, over the n responses that the judge, the rater and another rater scored: correlation and mean absolute error of the rater, and of the judge, against the mean of the other raters; severity: mean of the rater minus the others.';
