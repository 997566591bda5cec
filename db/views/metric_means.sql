create or replace view main.metric_means as
with
means as (
    select
        cell_id, judge, template, metric, judge_id, template_sha256,
        avg(score) as mean,
        stddev_samp(score) as sd,
        coalesce(stddev_samp(score), 0) / sqrt(count(*)) as se,
        count(*) as n,
        bool_and(score in (0, 1)) as is_outcome
    from main.metric_scores
    group by all
)
select
    cells.model, cells.quantization, cells.method, cells.language, cells.dpo, cells.settings_id, cells.dataset,
    means.judge, means.template, means.metric, means.mean, means.sd, means.se,
    -- Wilson's interval on the scale of 0 to 1, by the macros for the scale of 1 to 5
    (main.score_low(1 + 4 * means.mean, 4 * means.se, means.n, main.t_quantile(means.n - 1)) - 1) / 4 as ci_low,
    (main.score_high(1 + 4 * means.mean, 4 * means.se, means.n, main.t_quantile(means.n - 1)) - 1) / 4 as ci_high,
    means.n, cells.n_responses, means.is_outcome, means.judge_id, means.template_sha256, cells.in_paper_tables, cells.cell_id
from means
join main.cells as cells on cells.cell_id = means.cell_id
order by
    cells.dataset, cells.language, cells.model, cells.dpo, main.method_order(cells.method), cells.method,
    cells.cell_id, means.judge, means.metric;

comment on view main.metric_means is
'One row per cell (see cells), judge, template and metric on the scale of 0 to 1 that is not one of the study''s: mean over the n queries that have it, with Wilson''s 95 % interval (its effective size where the metric is a share). is_outcome: every score is 0 or 1, so the mean is a rate.';
