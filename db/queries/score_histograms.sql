-- one row a cell, judge, template and metric: its distinct scores in order and how often each was given
with
judged as (
    select
        answer.model, answer.quantization, answer.method, answer.language, answer.dpo, answer.settings_id,
        verdict.judge_id, verdict.template_sha256, verdict.reading,
        verdict.helpfulness, verdict.clarity, verdict.factuality, verdict.depth, verdict.engagement, verdict.avg,
        verdict.language as "language score", verdict.safety
    from main.response_scores as verdict
    join main.responses as answer on answer.response_id = verdict.response_id
    where
        answer.finish_reason not in ('prompt_too_long', 'error')
        and verdict.reading = getvariable('icl_reading')
        and verdict.judge = coalesce(getvariable('icl_judge'), verdict.judge)
),
given as (
    unpivot judged
    on helpfulness, clarity, factuality, depth, engagement, avg, "language score" as language_score, safety
    into name metric value score
),
counts as (
    select
        model, quantization, method, language, dpo, settings_id, judge_id, template_sha256, reading,
        if(metric = 'language_score', 'language', metric) as metric, score, count(*) as n
    from given
    group by all
)
select
    model, quantization, method, language, dpo, settings_id, judge_id, template_sha256, reading, metric,
    list(score order by score) as scores,
    list(n order by score) as counts
from counts
group by all
order by all
