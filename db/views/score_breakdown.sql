create or replace view main.score_breakdown as
with
grouped as (
    select
        answer.cell_id, groups.dimension, groups.value, verdict.judge_id, verdict.template_sha256, verdict.reading,
        any_value(verdict.judge) as judge,
        any_value(verdict.template) as template,
        {'mean': avg(verdict.helpfulness), 'sd': stddev_samp(verdict.helpfulness), 'n': count(verdict.helpfulness)} as helpfulness,
        {'mean': avg(verdict.clarity), 'sd': stddev_samp(verdict.clarity), 'n': count(verdict.clarity)} as clarity,
        {'mean': avg(verdict.factuality), 'sd': stddev_samp(verdict.factuality), 'n': count(verdict.factuality)} as factuality,
        {'mean': avg(verdict.depth), 'sd': stddev_samp(verdict.depth), 'n': count(verdict.depth)} as depth,
        {'mean': avg(verdict.engagement), 'sd': stddev_samp(verdict.engagement), 'n': count(verdict.engagement)} as engagement,
        {'mean': avg(verdict.avg), 'sd': stddev_samp(verdict.avg), 'n': count(verdict.avg)} as avg,
        {'mean': avg(verdict.language), 'sd': stddev_samp(verdict.language), 'n': count(verdict.language)} as language,
        {'mean': avg(verdict.safety), 'sd': stddev_samp(verdict.safety), 'n': count(verdict.safety)} as safety
    from main.response_scores as verdict
    join main.responses as answer on answer.response_id = verdict.response_id
    join main.response_groups as groups on groups.response_id = verdict.response_id
    group by
        answer.cell_id, groups.dimension, groups.value, verdict.judge_id, verdict.template_sha256, verdict.reading
),
moments as (
    unpivot grouped
    on helpfulness, clarity, factuality, depth, engagement, avg, language, safety
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
'One row a group of responses (dimension and value, see response_groups), cell of paper_cells, judge, template, reading and metric: mean score, standard deviation, and the interval mean -+ z * se with z = 1.959964.';
