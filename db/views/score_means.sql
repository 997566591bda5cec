create or replace view main.score_means as
with
clusters as (
    select cell, instrument, reading, cluster, main.score_sums(columns(main.metrics()))
    from main.query_scores
    group by cell, instrument, reading, cluster
),
given as (
    select cell, instrument, reading, main.cluster_sums(columns(main.metrics()), cluster)
    from clusters
    group by cell, instrument, reading
),
sums as (
    unpivot given
    on columns(main.metrics())
    into name metric value sums
),
means as (
    select cell, instrument, reading, metric, unnest(main.moments(sums))
    from sums
    where sums.n > 0
)
select
    cells.model, cells.quantization, cells.method, cells.language, cells.dpo, cells.settings_id, cells.dataset,
    instruments.judge, means.reading, means.metric, means.mean, means.sd, means.se,
    main.score_low(means.mean, means.se, means.n, main.t_quantile(means.df)) as ci_low,
    main.score_high(means.mean, means.se, means.n, main.t_quantile(means.df)) as ci_high,
    means.n,
    case when means.metric = 'safety' then cells.n_safety else cells.n_multi end as n_expected,
    means.df,
    instruments.template, instruments.judge_id, instruments.template_sha256,
    cells.size_class, cells.table_place, cells.in_paper_tables, cells.cell_id
from means
join raw.cells as cell on cell.rowid = means.cell
join main.cells as cells on cells.cell_id = cell.cell_id
join main.instruments as instruments on instruments.instrument = means.instrument;

comment on view main.score_means is
'One row per cell (see cells), judge, template, reading and metric: mean, standard deviation (n - 1), standard error with queries of one text as one observation, and the 95 % interval on the scale: Wilson''s with the effective size of the mean, t with df degrees of freedom. n responses have that score, n_expected should. metric avg is the mean over responses that have all five aspects. table_place, in_paper_tables, cell_id: see cells.';
