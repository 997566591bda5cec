create or replace view main.paired_differences as
with
answers as (
    select response_id, {'cell_id': cell_id, 'dataset': dataset, 'query_id': query_id} as answer
    from main.responses
),
looked_up as (
    select
        -- a subquery, not a join: the small side becomes the hash table
        (select answer from answers where answers.response_id = verdict.response_id) as answer,
        verdict.judge_id, verdict.judge, verdict.template, verdict.reading,
        verdict.helpfulness, verdict.clarity, verdict.factuality, verdict.depth, verdict.engagement, verdict.avg,
        verdict.language, verdict.safety
    from main.response_scores as verdict
),
sides as (
    select
        answer.cell_id, answer.dataset, answer.query_id, judge_id, judge, template, reading,
        helpfulness, clarity, factuality, depth, engagement, avg, language, safety
    from looked_up
    where answer is not null
),
compared as (
    select
        pairs.differs_in, pairs.cell_id_a, pairs.cell_id_b, a.judge_id, any_value(a.judge) as judge, a.template, a.reading,
        {
            'mean_a': avg(a.helpfulness) filter (where b.helpfulness is not null),
            'difference': avg(b.helpfulness - a.helpfulness),
            'sd': stddev_samp(b.helpfulness - a.helpfulness),
            'n': count(b.helpfulness - a.helpfulness)
        } as helpfulness,
        {
            'mean_a': avg(a.clarity) filter (where b.clarity is not null),
            'difference': avg(b.clarity - a.clarity),
            'sd': stddev_samp(b.clarity - a.clarity),
            'n': count(b.clarity - a.clarity)
        } as clarity,
        {
            'mean_a': avg(a.factuality) filter (where b.factuality is not null),
            'difference': avg(b.factuality - a.factuality),
            'sd': stddev_samp(b.factuality - a.factuality),
            'n': count(b.factuality - a.factuality)
        } as factuality,
        {
            'mean_a': avg(a.depth) filter (where b.depth is not null),
            'difference': avg(b.depth - a.depth),
            'sd': stddev_samp(b.depth - a.depth),
            'n': count(b.depth - a.depth)
        } as depth,
        {
            'mean_a': avg(a.engagement) filter (where b.engagement is not null),
            'difference': avg(b.engagement - a.engagement),
            'sd': stddev_samp(b.engagement - a.engagement),
            'n': count(b.engagement - a.engagement)
        } as engagement,
        {
            'mean_a': avg(a.avg) filter (where b.avg is not null),
            'difference': avg(b.avg - a.avg),
            'sd': stddev_samp(b.avg - a.avg),
            'n': count(b.avg - a.avg)
        } as avg,
        {
            'mean_a': avg(a.language) filter (where b.language is not null),
            'difference': avg(b.language - a.language),
            'sd': stddev_samp(b.language - a.language),
            'n': count(b.language - a.language)
        } as language,
        {
            'mean_a': avg(a.safety) filter (where b.safety is not null),
            'difference': avg(b.safety - a.safety),
            'sd': stddev_samp(b.safety - a.safety),
            'n': count(b.safety - a.safety)
        } as safety
    from main.cell_pairs as pairs
    join sides as a on a.cell_id = pairs.cell_id_a
    join sides as b
        on b.cell_id = pairs.cell_id_b and b.dataset = a.dataset and b.query_id = a.query_id
        and b.judge_id = a.judge_id and b.template = a.template and b.reading = a.reading
    group by pairs.differs_in, pairs.cell_id_a, pairs.cell_id_b, a.judge_id, a.template, a.reading
),
moments as (
    unpivot compared
    on helpfulness, clarity, factuality, depth, engagement, avg, language, safety
    into name metric value moment
),
results as (
    select
        differs_in, cell_id_a, cell_id_b, judge, template, reading, metric, moment.mean_a as mean_a, moment.difference as difference,
        moment.sd as sd, moment.sd / sqrt(moment.n) as se, moment.n as n
    from moments
    where moment.n > 0
)
select
    differs_in, pairs.a, pairs.b, pairs.model, pairs.method, pairs.language, pairs.dpo,
    results.judge, results.reading, results.metric,
    results.mean_a,
    results.mean_a + results.difference as mean_b,
    results.difference,
    results.se,
    results.difference - 1.959964 * results.se as ci_low,
    results.difference + 1.959964 * results.se as ci_high,
    results.n,
    results.difference / nullif(results.sd, 0) as dz,
    results.template, pairs.quantization_a, pairs.quantization_b
from results
join main.cell_pairs as pairs using (differs_in, cell_id_a, cell_id_b);

comment on view main.paired_differences is
'One row a pair of cells that differ in one thing (see cell_pairs), judge, template, reading and metric, over the n queries that both have a score for: mean difference b - a, its paired standard error, the interval difference -+ z * se with z = 1.959964, and the effect size dz (mean over standard deviation of the differences).';
