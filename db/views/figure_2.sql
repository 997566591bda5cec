create or replace view main.figure_2 as
with
shown as (
    select language, model, size_class, method, metric, value, ci_low, ci_high, n
    from main.paper_scores
    where origin = main.shown_origin() and coalesce(paper_table, 'table_2') = 'table_2'
        and not dpo and metric <> 'avg'
),
multilingual as (
    select model from shown group by model having count(distinct language) > 1
)
select language, model, method, metric, value, ci_low, ci_high, n
from shown
where model in (select model from multilingual)
order by
    language <> 'en', language, size_class nulls last, model,
    main.method_order(method), method,
    main.metric_order(metric);

comment on view main.figure_2 is
'Data of Figure 2, one row per language, model, method and metric: mean score and interval of the models that were run in more than one language, without DPO.';
