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
        verdict.judge_id, verdict.judge, verdict.template, verdict.reading, columns(main.metrics())
    from main.response_scores as verdict
),
sides as (
    select
        answer.cell_id, answer.dataset, answer.query_id, judge_id, judge, template, reading, columns(main.metrics())
    from looked_up
    where answer is not null
),
compared as (
    select
        pairs.differs_in, pairs.cell_id_a, pairs.cell_id_b, side_a.judge_id, any_value(side_a.judge) as judge, side_a.template, side_a.reading,
        unnest(main.pair_moments(side_a, side_b))
    from main.cell_pairs as pairs
    join sides as side_a on side_a.cell_id = pairs.cell_id_a
    join sides as side_b
        on side_b.cell_id = pairs.cell_id_b and side_b.dataset = side_a.dataset and side_b.query_id = side_a.query_id
        and side_b.judge_id = side_a.judge_id and side_b.template = side_a.template and side_b.reading = side_a.reading
    group by pairs.differs_in, pairs.cell_id_a, pairs.cell_id_b, side_a.judge_id, side_a.template, side_a.reading
),
moments as (
    unpivot compared
    on columns(main.metrics())
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
'One row per pair of cells that differ in one thing (see cell_pairs), judge, template, reading and metric, over the n queries with a score on both sides: mean difference b - a, its paired standard error, the interval difference -+ z * se with z = 1.959964, and the effect size dz (mean over standard deviation of the differences).';
