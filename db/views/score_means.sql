create or replace view main.score_means as
with
answers as (
    select response_id, {'cell_id': cell_id, 'cluster': cluster} as answer
    from main.responses
    left join main.query_clusters using (query_key)
    where main.answered(finish_reason)
),
looked_up as (
    select
        -- a subquery, not a join: the small side becomes the hash table, and verdicts stream past it
        (select answer from answers where answers.response_id = verdict.response_id) as answer,
        verdict.judge_id, verdict.judge, verdict.template_sha256, verdict.template, verdict.reading,
        columns(main.metrics())
    from main.response_scores as verdict
),
clusters as (
    select
        answer.cell_id, judge_id, template_sha256, reading, answer.cluster,
        any_value(judge) as judge,
        any_value(template) as template,
        main.score_sums(columns(main.metrics()))
    from looked_up
    group by answer.cell_id, judge_id, template_sha256, reading, answer.cluster
),
given as (
    select
        cell_id, judge_id, template_sha256, reading,
        any_value(judge) as judge,
        any_value(template) as template,
        main.cluster_sums(columns(main.metrics()), cluster)
    from clusters
    group by cell_id, judge_id, template_sha256, reading
),
sums as (
    unpivot given
    on columns(main.metrics())
    into name metric value sums
),
means as (
    select
        cell_id, judge_id, judge, template_sha256, template, reading, metric,
        sums.n as n,
        sums.s / sums.n as mean,
        sqrt(main.centered(sums.n, sums.s, sums.q) / nullif(sums.n - 1, 0)) as sd,
        main.clustered_se(sums) as se,
        main.n_clusters(sums) - 1 as df
    from sums
    where sums.n > 0
)
select
    cells.model, cells.quantization, cells.method, cells.language, cells.dpo, cells.settings_id, cells.dataset,
    means.judge, means.reading, means.metric, means.mean, means.sd, means.se,
    main.score_low(means.mean, means.se, means.n, main.t_quantile(means.df)) as ci_low,
    main.score_high(means.mean, means.se, means.n, main.t_quantile(means.df)) as ci_high,
    means.n::bigint as n,
    case when means.metric = 'safety' then cells.n_safety else cells.n_multi end as n_expected,
    means.df::bigint as df,
    means.template, means.judge_id, means.template_sha256,
    cells.size_class, cells.in_paper_tables, means.cell_id
from means
join main.cells as cells on cells.cell_id = means.cell_id;

comment on view main.score_means is
'One row per cell (see cells), judge, template, reading and metric: mean, standard deviation (n - 1), standard error with queries of one text as one observation, and the 95 % interval on the scale: Wilson''s with the effective size of the mean, t with df degrees of freedom. n responses have that score, n_expected should. metric avg is the mean over responses that have all five aspects. in_paper_tables, cell_id: see cells.';
