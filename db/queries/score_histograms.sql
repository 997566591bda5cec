-- $1 false: one row per cell, judge, template and metric, over its scores. $1 true: one row per pair of cells of
-- paired_differences, judge, template (of a) and metric, over the differences b - a; baseline_cell_id is a.
-- Queries of one text are a cluster: counts clusters have sizes scores that add up to sums.
with
given as (
    unpivot (
        select cell, asked.query_id, cluster, instrument, columns(main.metrics())
        from main.query_scores
        left join raw.queries as asked on asked.rowid = query
        where reading = getvariable('icl_reading')
    )
    on columns(main.metrics())
    into name metric value score
),
chosen as (
    select instrument, judge_id, template_sha256
    from main.instruments
    where judge = coalesce(getvariable('icl_judge'), judge)
),
pairs as (
    select distinct
        b.rowid as cell, a.rowid as baseline, chosen.instrument, of_b.instrument as instrument_b
    from main.paired_differences as pair
    join raw.cells as a on a.cell_id = pair.cell_id_a
    join raw.cells as b on b.cell_id = pair.cell_id_b
    join chosen on chosen.judge_id = pair.judge_id and chosen.template_sha256 = pair.template_sha256
    join chosen as of_b on of_b.judge_id = pair.judge_id and of_b.template_sha256 = pair.template_sha256_b
    where pair.reading = getvariable('icl_reading')
),
scores as (
    select cell, null as baseline, instrument, metric, cluster, score
    from given
    where not $1
    union all
    select
        pairs.cell, pairs.baseline, pairs.instrument, side_a.metric, side_a.cluster, side_b.score - side_a.score
    from pairs
    join given as side_a on side_a.cell = pairs.baseline and side_a.instrument = pairs.instrument
    join given as side_b
        on side_b.cell = pairs.cell and side_b.instrument = pairs.instrument_b
        and side_b.query_id = side_a.query_id and side_b.metric = side_a.metric
    where $1
),
clusters as (
    select cell, baseline, instrument, metric, score as sum, 1 as size
    from scores
    where cluster is null
    union all
    select cell, baseline, instrument, metric, sum(score), count(*)
    from scores
    where cluster is not null
    group by cell, baseline, instrument, metric, cluster
),
counts as (
    -- equal sums can differ in their last binary digits
    select cell, baseline, instrument, metric, round(sum, 12) as sum, size, count(*) as n
    from clusters
    group by all
)
select
    cell.cell_id, baseline.cell_id as baseline_cell_id, chosen.judge_id, chosen.template_sha256,
    getvariable('icl_reading') as reading, counts.metric,
    list(counts.sum order by counts.sum, counts.size) as sums,
    list(counts.size order by counts.sum, counts.size) as sizes,
    list(counts.n order by counts.sum, counts.size) as counts
from counts
join chosen on chosen.instrument = counts.instrument
join raw.cells as cell on cell.rowid = counts.cell
left join raw.cells as baseline on baseline.rowid = counts.baseline
group by all
order by all
