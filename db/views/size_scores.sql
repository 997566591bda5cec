create or replace view main.size_scores as
with
sizes as (
    -- files of one model may count their parameters differently
    select label as model, max(parameters) as parameters from raw.models where parameters is not null group by label
),
printed as (
    select distinct model, (regexp_extract(model, '([0-9.]+)B$', 1)::double * 1e9)::bigint as parameters
    from main.printed_values
    where is_score
)
select
    cell.language, cell.model, coalesce(sizes.parameters, printed.parameters) as parameters,
    cell.method, cell.dpo, cell.metric, cell.value, cell.ci_low, cell.ci_high, cell.n
from main.paper_scores as cell
left join sizes on cell.origin = 'ours' and sizes.model = cell.model
left join printed on printed.model = cell.model
where cell.origin = main.shown_origin() and cell.canonical and cell.metric in ('avg', 'safety')
order by
    cell.language <> 'en', cell.language, cell.metric,
    main.method_order(cell.method), cell.method, cell.dpo, parameters;

comment on view main.size_scores is
'One row per language, model, method, dpo and metric (avg, safety): mean score and interval with the number of parameters, for the figure of score against size.';
