create or replace view main.method_effects as
with
judged as (
    select scores.cell, scores.query, scores.cluster, scores.instrument, scores.reading, columns(main.metrics())
    from main.query_scores as scores
    semi join main.method_cells as chosen on chosen.cell = scores.cell
),
long as (
    unpivot judged
    on columns(main.metrics())
    into name metric value score
),
scores as (
    select
        long.cell, query.query_id, long.cluster,
        {
            'judge': instruments.judge, 'template': instruments.template, 'reading': long.reading,
            'metric': long.metric, 'judge_id': instruments.judge_id, 'template_sha256': instruments.template_sha256
        } as measured,
        avg(long.score) as score
    from long
    join main.instruments as instruments on instruments.instrument = long.instrument
    join raw.queries as query on query.rowid = long.query
    group by all
    union all
    select
        chosen.cell, given.query_id, clusters.cluster_number,
        {
            'judge': given.judge, 'template': given.template, 'reading': 'strict',
            'metric': given.metric, 'judge_id': given.judge_id, 'template_sha256': given.template_sha256
        },
        given.score
    from main.metric_scores as given
    join main.method_cells as chosen on chosen.cell_id = given.cell_id
    left join raw.queries as query
        on query.dataset = chosen.family.dataset and query.language = chosen.family.language
        and query.query_id = given.query_id
    left join main.query_clusters as clusters on clusters.query_key = query.query_key
),
-- a method with parameters is a value of each of them
variants as (
    select
        chosen.family,
        unnest(list_transform(
            main.parameters_of(chosen.method),
            lambda pair: {'parameter': split_part(pair, '=', 1), 'value': split_part(pair, '=', 2)}
        )) as valued,
        scores.*
    from main.method_cells as chosen
    join scores using (cell)
),
means as (
    select family, valued, measured, cell, avg(score) as mean
    from variants
    group by all
),
effects as (
    select
        family, valued, measured, count(*) as n_variants, avg(mean) as mean, min(mean) as low, max(mean) as high
    from means
    group by all
),
by_query as (
    select family, valued, measured, query_id, cluster, avg(score) as score
    from variants
    group by all
),
base as (
    select chosen.family, scores.measured, scores.query_id, scores.score
    from main.method_cells as chosen
    join scores using (cell)
    where not main.has_parameters(chosen.method)
),
clusters as (
    select family, by_query.valued, measured, by_query.cluster, main.pair_sums_of(base.score, by_query.score) as part
    from by_query
    join base using (family, measured, query_id)
    group by all
),
compared as (
    select family, valued, measured, main.moments(main.cluster_sums(part, cluster)) as paired
    from clusters
    group by all
),
-- where all differences are equal, the interval is as wide as the scale allows: 0 to 1 for rules, 1 to 5 for judges
widths as (
    select
        family, valued, measured, paired,
        main.difference_half(paired.se, paired.n, paired.df)
        * case when paired.se = 0 and main.metric_order(measured.metric) is null then 0.25 else 1 end as half
    from compared
)
select
    unnest(family), unnest(valued),
    measured.judge, measured.template, measured.reading, measured.metric,
    n_variants, mean, low, high,
    paired.mean as difference, paired.mean - half as ci_low, paired.mean + half as ci_high, paired.n as n,
    measured.judge_id, measured.template_sha256
from effects
left join widths using (family, valued, measured)
order by family, valued.parameter, try_cast(valued.value as double), valued.value, measured;

comment on view main.method_effects is
'One row per model, type, language, dpo, query set, settings, method without parameters (base_method), parameter, value, judge, template, reading and metric: mean over the n_variants methods that have this value, whatever their other parameters, and the lowest (low) and highest (high) mean of one of them. difference: of the mean of these methods from base_method, over the n queries that both have a score for, queries of one text as one observation, with its 95 % interval by Student''s t; NULL where base_method has no scores. Cells are those of method_cells.';
