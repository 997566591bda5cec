-- One row per cell, judge, template and metric: its distinct scores in order, and the count of each.
with
judged as (
    select
        answer.cell_id, verdict.judge_id, verdict.template_sha256, verdict.reading, columns(main.metrics())
    from main.response_scores as verdict
    join (
        select response_id, cell_id from main.responses where main.answered(finish_reason)
    ) as answer on answer.response_id = verdict.response_id
    where
        verdict.reading = getvariable('icl_reading')
        and verdict.judge = coalesce(getvariable('icl_judge'), verdict.judge)
),
given as (
    unpivot judged
    on columns(main.metrics())
    into name metric value score
),
counts as (
    select cell_id, judge_id, template_sha256, reading, metric, score, count(*) as n
    from given
    group by all
)
select
    counts.cell_id, counts.judge_id, counts.template_sha256, counts.reading, counts.metric,
    list(counts.score order by counts.score) as scores,
    list(counts.n order by counts.score) as counts
from counts
group by all
order by all
