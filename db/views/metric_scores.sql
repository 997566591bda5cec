create or replace view main.metric_scores as
with
instrument as (
    select template_sha256
    from raw.judge_templates
    where len(list_filter(metrics, lambda metric: main.metric_order(metric) is null)) > 0
),
given as (
    select
        response_id, judge_id, judge, template_sha256, template,
        unnest(metrics) as metric,
        unnest(scores) as score
    from main.verdicts
    semi join instrument using (template_sha256)
)
select
    query.query_id, given.judge, given.template, given.metric,
    avg(given.score) as score,
    response.cell_id, given.judge_id, given.template_sha256
from given
join raw.responses as response on response.response_id = given.response_id
left join raw.queries as query on query.query_key = response.query_key
where given.score is not null and main.answered(response.finish_reason) and main.metric_order(given.metric) is null
group by all;

comment on view main.metric_scores is
'One row per cell, query, judge, template and metric that is not one of the study''s, such as those of icl judge --judge rules: the mean over the responses and repeats of the query.';
