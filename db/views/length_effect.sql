-- Least squares of the score on the length of the text within cells: whether a judge prefers long answers.
create or replace view main.length_effect as
with
points as (
    select
        scores.judge_id, scores.judge, scores.template, scores.template_sha256, scores.repeat, answers.language,
        scores.metric, answers.cell_id,
        coalesce(clusters.cluster, answers.query_key) as query,
        scores.score as y,
        length(answers.text) / 1000.0 as x
    from main.scores as scores
    join raw.responses as answers on answers.response_id = scores.response_id
    left join main.query_clusters as clusters on clusters.query_key = answers.query_key
    where scores.score is not null
),
centered as (
    select
        *,
        x - avg(x) over cell as dx,
        y - avg(y) over cell as dy
    from points
    window cell as (partition by judge_id, template_sha256, repeat, language, metric, cell_id)
),
fits as (
    select
        judge_id, judge, template, template_sha256, repeat, language, metric,
        count(*) as n,
        count(distinct cell_id) as n_cells,
        avg(x) * 1000 as mean_length,
        sum(dx * dy) / nullif(sum(dx * dx), 0) as slope,
        sum(dx * dx) as sxx,
        regr_slope(y, x) as slope_pooled,
        regr_intercept(y, x) as intercept,
        regr_r2(y, x) as r2,
        regr_syy(y, x) as syy
    from centered
    group by all
),
residuals as (
    select
        points.judge_id, points.template_sha256, points.repeat, points.language, points.metric, points.query,
        sum(points.dx * (points.dy - fits.slope * points.dx)) as moment
    from centered as points
    join fits using (judge_id, template_sha256, repeat, language, metric)
    group by all
),
meat as (
    select
        judge_id, template_sha256, repeat, language, metric,
        count(*) as n_queries,
        sum(moment * moment) as meat
    from residuals
    group by all
)
select
    judge, template, repeat, language, metric, n, mean_length,
    slope as slope_per_1000_characters,
    case when n_queries > 1 and n > n_cells + 1 and sxx > 0 then
        sqrt(n_queries / (n_queries - 1) * (n - 1) / (n - n_cells - 1) * meat / (sxx * sxx))
    end as slope_se,
    intercept,
    case when syy > 0 then r2 end as r2,
    slope_pooled, n_cells, n_queries, n_queries - 1 as df, judge_id, template_sha256
from fits
join meat using (judge_id, template_sha256, repeat, language, metric);

comment on view main.length_effect is
'One row per judge, template, repeat, language and aspect: slope of the score on the length of the text (1,000 characters) within cells, so that a model that writes more and better does not count as the judge''s taste; its standard error clustered by query, df degrees of freedom. slope_pooled, intercept and r2 are of all texts together. slope is NULL if all texts of each cell are equally long.';
