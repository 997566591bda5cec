create or replace view main.score_breakdown as
with
grouped as (
    select
        answer.cell_id, groups.dimension, groups.value, verdict.judge_id, verdict.template_sha256, verdict.reading,
        any_value(verdict.judge) as judge,
        any_value(verdict.template) as template,
        main.moment(columns(main.metrics()))
    from main.response_scores as verdict
    join (select response_id, cell_id from main.responses) as answer on answer.response_id = verdict.response_id
    join main.response_groups as groups on groups.response_id = verdict.response_id
    group by
        answer.cell_id, groups.dimension, groups.value, verdict.judge_id, verdict.template_sha256, verdict.reading
),
moments as (
    unpivot grouped
    on columns(main.metrics())
    into name metric value moment
)
select
    moments.dimension, moments.value,
    shown.model, shown.method, shown.language, shown.dpo, moments.judge, moments.reading, moments.metric,
    moments.moment.mean as mean,
    moments.moment.sd as sd,
    moments.moment.mean - 1.959964 * moments.moment.sd / sqrt(moments.moment.n) as ci_low,
    moments.moment.mean + 1.959964 * moments.moment.sd / sqrt(moments.moment.n) as ci_high,
    moments.moment.n as n,
    moments.template, shown.quantization, shown.settings_id
from moments
join main.paper_cells as shown on shown.cell_id = moments.cell_id
where moments.moment.n > 0;

comment on view main.score_breakdown is
'One row per group of responses (dimension and value, see response_groups), cell of paper_cells, judge, template, reading and metric: mean score, standard deviation, and the interval mean -+ z * se with z = 1.959964.';
