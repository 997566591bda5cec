create or replace view main.variance_components as
with
repeated as (
    select distinct response_id from raw.judgments where repeat > 0
),
drawn as (
    select cell_id, query_key from raw.responses where draw is not null group by all having count(*) > 1
),
cells as (
    select main.method_family(cell) as family, method, cell_id
    from main.cells as cell
),
-- the groups that a cell belongs to, and its level of the factor; NULL: the levels are within the cell
varied as (
    select
        family, cell_id,
        unnest([
            {
                'factor': 'examples', 'method': main.without_parameter(method, 'seed'),
                'level': main.parameter_of(method, 'seed')
            },
            {
                'factor': 'order', 'method': main.without_parameter(method, 'order'),
                'level': coalesce(main.parameter_of(method, 'order'), '0')
            }
        ], recursive := true)
    from main.method_cells
),
-- what has a level, of which query
units as (
    select
        varied.family, varied.factor, varied.method, varied.level, response.response_id,
        coalesce(clusters.cluster, response.query_key) as query
    from varied
    join raw.responses as response on response.cell_id = varied.cell_id
    left join main.query_clusters as clusters on clusters.query_key = response.query_key
    where varied.level is not null
    union all
    select
        cells.family, 'draws', cells.method, concat_ws(' ', response.draw_seed, response.draw), response.response_id,
        coalesce(clusters.cluster, response.query_key)
    from raw.responses as response
    semi join drawn on drawn.cell_id = response.cell_id and drawn.query_key = response.query_key
    join cells on cells.cell_id = response.cell_id
    left join main.query_clusters as clusters on clusters.query_key = response.query_key
    union all
    select cells.family, 'judge', cells.method, null, response.response_id, response.response_id
    from raw.responses as response
    semi join repeated on repeated.response_id = response.response_id
    join cells on cells.cell_id = response.cell_id
),
observations as (
    select
        units.family, units.factor, units.method, units.query,
        coalesce(units.level, scores.repeat::varchar) as level,
        {
            'judge': scores.judge, 'template': scores.template, 'metric': scores.metric,
            'judge_id': scores.judge_id, 'template_sha256': scores.template_sha256
        } as measured,
        avg(scores.score) as score
    from units
    join main.verdict_scores as scores on scores.response_id = units.response_id
    where scores.score is not null
    group by all
),
counted as (
    select family, factor, method, measured, count(distinct level) as levels
    from observations
    group by all
    having levels > 1
),
-- the queries that have all levels
complete as (
    select family, factor, method, measured, query, level, score, levels
    from observations
    join counted using (family, factor, method, measured)
    qualify count(*) over (partition by family, factor, method, measured, query) = levels
),
centred as (
    select
        family, factor, method, measured, query, levels, score,
        avg(score) over (partition by family, factor, method, measured) as grand,
        avg(score) over (partition by family, factor, method, measured, level) as of_level,
        avg(score) over (partition by family, factor, method, measured, query) as of_query
    from complete
),
squares as (
    select
        family, factor, method, measured,
        factor in ('draws', 'judge') as is_nested,
        any_value(levels) as levels,
        count(distinct query) as n_queries,
        round(any_value(grand), 12) as mean,
        sum(power(of_level - grand, 2)) / (any_value(levels) - 1) as ms_level,
        sum(power(of_query - grand, 2)) / nullif(count(distinct query) - 1, 0) as ms_query,
        sum(power(score - of_query, 2)) / (count(distinct query) * (any_value(levels) - 1)) as ms_within,
        sum(power(score - of_level - of_query + grand, 2))
        / nullif((any_value(levels) - 1) * (count(distinct query) - 1), 0) as ms_rest
    from centred
    group by all
),
-- rounded, so that the order in which DuckDB adds does not show: a variance of 0 would have a deviation of 1e-9
components as (
    select
        *,
        round(case when is_nested then ms_within else greatest(0, (ms_level - ms_rest) / n_queries) end, 12)
            as var_factor,
        round(greatest(0, (ms_query - case when is_nested then ms_within else ms_rest end) / levels), 12) as var_query,
        case when not is_nested then round(ms_rest, 12) end as var_rest
    from squares
)
select
    unnest(family), method,
    measured.judge, measured.template, measured.metric, factor, levels, n_queries, mean,
    sqrt(var_factor) as sd_factor,
    sqrt(var_query) as sd_query,
    sqrt(var_rest) as sd_rest,
    sqrt(var_query / n_queries + coalesce(var_rest, 0) / (levels * n_queries)) as se_queries,
    sqrt(
        var_factor / case when is_nested then levels * n_queries else levels end
        + var_query / n_queries + coalesce(var_rest, 0) / (levels * n_queries)
    ) as se_all,
    var_factor / nullif(var_factor + var_query + coalesce(var_rest, 0), 0) as share,
    measured.judge_id, measured.template_sha256
from components
order by family, method, factor, measured;

comment on view main.variance_components is
'One row per model, type, language, dpo, query set, settings, method, judge, template, metric and factor: how much of the variance of scores is the factor''s. examples (methods that differ in their seed alone) and order (in the order of the examples alone) are crossed with queries: mean squares of a two-way table without repetition over the n_queries that have all levels, queries of one text as one. draws (responses of one cell to one query) and judge (repeated verdicts on one response; n_queries counts responses) are nested in queries, and have no sd_rest. mean is over all of it. Standard deviations: between levels (sd_factor), between queries, and what is left; a negative estimate is 0. se_queries is the error of mean if other queries were drawn, se_all if other levels were drawn too: a gain smaller than about twice se_all may be the choice of examples. share: of the factor in the sum of the variances. method is the name without the factor''s parameter. Strict reading; cells of examples and order are those of method_cells.';
