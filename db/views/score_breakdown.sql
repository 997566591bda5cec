create or replace view main.score_breakdown as
with
clusters as (
    select
        score.cell, groups.dimension, groups.value, score.instrument, score.reading, score.cluster,
        main.score_sums(columns(main.metrics()))
    from main.query_scores as score
    join main.response_groups as groups on groups.response_id = score.response_id
    group by score.cell, groups.dimension, groups.value, score.instrument, score.reading, score.cluster
),
grouped as (
    select cell, dimension, value, instrument, reading, main.cluster_sums(columns(main.metrics()), cluster)
    from clusters
    group by cell, dimension, value, instrument, reading
),
sums as (
    unpivot grouped
    on columns(main.metrics())
    into name metric value sums
),
means as (
    select cell, dimension, value, instrument, reading, metric, unnest(main.moments(sums))
    from sums
    where sums.n > 0
)
select
    means.dimension, means.value,
    shown.model, shown.method, shown.language, shown.dpo, instruments.judge, means.reading, means.metric,
    means.mean, means.sd,
    main.score_low(means.mean, means.se, means.n, main.t_quantile(means.df)) as ci_low,
    main.score_high(means.mean, means.se, means.n, main.t_quantile(means.df)) as ci_high,
    means.n,
    instruments.template, shown.quantization, shown.settings_id, means.se, instruments.template_sha256,
    shown.cell_id, instruments.judge_id
from means
join raw.cells as cell on cell.rowid = means.cell
join main.paper_cells as shown on shown.cell_id = cell.cell_id
join main.instruments as instruments on instruments.instrument = means.instrument;

comment on view main.score_breakdown is
'One row per group of responses (dimension and value, see response_groups), cell of paper_cells, judge, template, reading and metric: mean score, standard deviation and 95 % interval as in score_means.';
