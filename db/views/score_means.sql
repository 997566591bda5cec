create or replace view main.score_means as
with
answers as (
    select
        response_id, model, quantization, method, language, dpo, settings_id, split,
        -- grouping millions of rows by one number is three times as fast as by six names
        hash(model, quantization, method, language, dpo, settings_id) as cell_id
    from main.responses
    where finish_reason not in ('prompt_too_long', 'error')
),
cells as (
    select
        cell_id, model, quantization, method, language, dpo, settings_id,
        count(*) filter (where split = 'safety') as n_safety,
        count(*) filter (where split is distinct from 'safety') as n_multi
    from answers
    group by cell_id, model, quantization, method, language, dpo, settings_id
),
verdicts as (
    select
        answer.cell_id, verdict.judge_id, verdict.template_sha256, verdict.reading,
        any_value(verdict.judge) as judge,
        any_value(verdict.template) as template,
        {'mean': avg(helpfulness), 'sd': stddev_samp(helpfulness), 'n': count(helpfulness)} as helpfulness,
        {'mean': avg(clarity), 'sd': stddev_samp(clarity), 'n': count(clarity)} as clarity,
        {'mean': avg(factuality), 'sd': stddev_samp(factuality), 'n': count(factuality)} as factuality,
        {'mean': avg(depth), 'sd': stddev_samp(depth), 'n': count(depth)} as depth,
        {'mean': avg(engagement), 'sd': stddev_samp(engagement), 'n': count(engagement)} as engagement,
        {'mean': avg(verdict.avg), 'sd': stddev_samp(verdict.avg), 'n': count(verdict.avg)} as avg,
        {'mean': avg(verdict.language), 'sd': stddev_samp(verdict.language), 'n': count(verdict.language)} as language,
        {'mean': avg(safety), 'sd': stddev_samp(safety), 'n': count(safety)} as safety
    from main.response_scores as verdict
    join answers as answer on answer.response_id = verdict.response_id
    group by answer.cell_id, verdict.judge_id, verdict.template_sha256, verdict.reading
),
moments as (
    unpivot verdicts
    on helpfulness, clarity, factuality, depth, engagement, avg, language, safety
    into name metric value moment
)
select
    cells.model, cells.quantization, cells.method, cells.language, cells.dpo, cells.settings_id,
    moments.judge, moments.reading, moments.metric,
    moments.moment.mean as mean,
    moments.moment.sd as sd,
    moments.moment.sd / sqrt(moments.moment.n) as se,
    moments.moment.mean - 1.959964 * moments.moment.sd / sqrt(moments.moment.n) as ci_low,
    moments.moment.mean + 1.959964 * moments.moment.sd / sqrt(moments.moment.n) as ci_high,
    moments.moment.n as n,
    case when moments.metric = 'safety' then cells.n_safety else cells.n_multi end as n_expected,
    moments.template, moments.judge_id, moments.template_sha256
from moments
join cells on cells.cell_id = moments.cell_id
where moments.moment.n > 0;

comment on view main.score_means is
'One row a model, quantization, method, language, dpo, settings_id, judge, template, reading and metric: mean, standard deviation (n - 1), standard error, and the interval mean -+ z * se with z = 1.959964. n responses have that score, n_expected should. metric avg is the mean over responses that have all five aspects.';
