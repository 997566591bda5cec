create or replace view main.score_means as
with
answers as (
    select response_id, cell_id from main.responses where finish_reason not in ('prompt_too_long', 'error')
),
given as (
    select
        -- a subquery, not a join: the small side becomes the hash table, and the rest streams by
        (select cell_id from answers where answers.response_id = verdict.response_id) as cell_id,
        verdict.judge_id, verdict.template_sha256, verdict.reading,
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
    group by cell_id, verdict.judge_id, verdict.template_sha256, verdict.reading
),
moments as (
    unpivot given
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
    moments.template, moments.judge_id, moments.template_sha256,
    cells.size_class, cells.in_paper_tables, moments.cell_id
from moments
join main.cells as cells on cells.cell_id = moments.cell_id
where moments.moment.n > 0;

comment on view main.score_means is
'One row a model, quantization, method, language, dpo, settings_id, judge, template, reading and metric: mean, standard deviation (n - 1), standard error, and the interval mean -+ z * se with z = 1.959964. n responses have that score, n_expected should. metric avg is the mean over responses that have all five aspects. in_paper_tables, cell_id: see cells.';
