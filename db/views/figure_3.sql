create or replace view main.figure_3 as
with
shown as (
    select language, model, size_class, method, dpo, metric, value, ci_low, ci_high, n
    from main.paper_scores
    where origin = main.shown_origin() and coalesce(paper_table, 'table_3') = 'table_3'
        and metric <> 'avg'
),
aligned as (
    select distinct language, model from shown where dpo
)
select language, model, method, dpo, metric, value, ci_low, ci_high, n
from shown
join aligned using (language, model)
order by
    language <> 'en', language, size_class nulls last, model,
    main.method_order(method), method, dpo,
    main.metric_order(metric);

comment on view main.figure_3 is
'Data of Figure 3, one row per language, model, method, dpo and metric: mean score and interval of the models that have a DPO variant, without and with it.';
