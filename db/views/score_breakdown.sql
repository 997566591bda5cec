create or replace view main.score_breakdown as
with
answers as (
    select response_id, cell_id, cluster
    from main.responses
    left join main.query_clusters using (query_key)
),
clusters as (
    select
        answer.cell_id, groups.dimension, groups.value, verdict.judge_id, verdict.template_sha256, verdict.reading,
        answer.cluster,
        any_value(verdict.judge) as judge,
        any_value(verdict.template) as template,
        main.score_sums(columns(main.metrics()))
    from main.response_scores as verdict
    join answers as answer on answer.response_id = verdict.response_id
    join main.response_groups as groups on groups.response_id = verdict.response_id
    group by
        answer.cell_id, groups.dimension, groups.value, verdict.judge_id, verdict.template_sha256, verdict.reading,
        answer.cluster
),
grouped as (
    select
        cell_id, dimension, value, judge_id, template_sha256, reading,
        any_value(judge) as judge,
        any_value(template) as template,
        main.cluster_sums(columns(main.metrics()), cluster)
    from clusters
    group by cell_id, dimension, value, judge_id, template_sha256, reading
),
sums as (
    unpivot grouped
    on columns(main.metrics())
    into name metric value sums
),
means as (
    select cell_id, dimension, value, judge, template, template_sha256, reading, metric, unnest(main.moments(sums))
    from sums
    where sums.n > 0
)
select
    means.dimension, means.value,
    shown.model, shown.method, shown.language, shown.dpo, means.judge, means.reading, means.metric,
    means.mean, means.sd,
    main.score_low(means.mean, means.se, means.n, main.t_quantile(means.df)) as ci_low,
    main.score_high(means.mean, means.se, means.n, main.t_quantile(means.df)) as ci_high,
    means.n,
    means.template, shown.quantization, shown.settings_id, means.se, means.template_sha256
from means
join main.paper_cells as shown on shown.cell_id = means.cell_id;

comment on view main.score_breakdown is
'One row per group of responses (dimension and value, see response_groups), cell of paper_cells, judge, template, reading and metric: mean score, standard deviation and 95 % interval as in score_means.';
