create or replace view main.text_intervals as
with
-- the value is the sum of weight x mean over cells
cells as (
    select
        shown.statement, shown.metric, shown.value, cell.rowid as cell, cell.cell_id, cell.dataset, cell.language,
        shown.reading, instruments.instrument,
        shown.sign / count(*) over (partition by shown.statement, shown.sign) as weight
    from main.statement_cells as shown
    join raw.cells as cell on cell.cell_id = shown.cell_id
    left join main.instruments as instruments
        on instruments.judge_id = shown.judge_id and instruments.template_sha256 = shown.template_sha256
    where shown.origin = 'ours' and shown.value is not null
),
scores as (
    unpivot (
        select cell, asked.query_id, instrument, reading, columns(main.metrics())
        from main.query_scores
        left join raw.queries as asked on asked.rowid = query
        where cell in (select cell from cells)
    )
    on columns(main.metrics())
    into name metric value score
),
observed as (
    select cells.statement, cells.cell, cells.dataset, cells.language, cells.weight, cells.value, scores.query_id, scores.score
    from cells
    join scores
        on scores.cell = cells.cell and scores.metric = cells.metric and scores.instrument = cells.instrument
        and scores.reading = cells.reading
    union all
    select
        cells.statement, cells.cell, cells.dataset, cells.language, cells.weight, cells.value, outcome.query_id,
        100.0 * outcome.failed::integer
    from cells
    join main.response_errors as outcome
        on outcome.cell_id = cells.cell_id and main.shown_error(outcome.error) = cells.metric
    where cells.instrument is null
),
-- models and languages share queries, and a query of the same text is the same query
repeated as (
    select query.dataset, query.language, query.query_id, min(query.query_id) over same as first_id
    from main.query_clusters as clusters
    join raw.queries as query using (query_key)
    window same as (partition by clusters.cluster_number)
),
named as (
    select observed.*, coalesce(repeated.first_id, observed.query_id) as query,
        count(*) over (partition by statement, cell) as n
    from observed
    left join repeated using (dataset, language, query_id)
),
queries as (
    select statement, query, sum(weight / n * (score - value)) as part, count(*) as n
    from named
    group by statement, query
),
variances as (
    select
        statement, count(*) - 1 as df,
        sqrt(
            sum(part * part) * count(*) / nullif(count(*) - 1, 0) * (sum(n) - 1)
            / nullif(sum(n) - (select count(*) from cells where cells.statement = queries.statement), 0)
        ) as se
    from queries
    group by statement
)
select
    found.*,
    variances.se,
    found.value - main.t_quantile(variances.df) * variances.se as ci_low,
    found.value + main.t_quantile(variances.df) * variances.se as ci_high,
    variances.df::bigint as df
from main.text_statistics as found
join main.published_statements as claims
    on claims.section = found.section and claims.text = found.statement
left join variances on variances.statement = claims.statement and found.origin = 'ours' and found.value is not null
order by found.origin desc, claims.statement;

comment on view main.text_intervals is
'One row per origin and sentence of the paper: text_statistics with the standard error of our value and its 95 % interval. Models and languages share queries, so the answers to one query are one observation: se is that of the same linear combination of cell means in a regression on the cells, clustered by query, t with df = queries - 1. It reads every score, so it is slower than text_statistics.';
