create or replace view main.printed_values as
with
printed (paper_table, language, model, method, dpo, metric, value, is_score) as (
    select paper_table, language, model, method, dpo, metric, published, true
    from main.published_scores
    where metric <> 'avg'
    union all
    select paper_table, language, model, method, dpo, 'avg', avg(published), true
    from main.published_scores
    where list_contains(main.aspects(), metric)
    group by paper_table, language, model, method, dpo
    having count(*) = len(main.aspects())
    union all
    select paper_table, language, model, method, dpo, error, published_percent, false
    from main.published_errors
)
select
    paper_table,
    paper_table = min(paper_table) over (partition by language, model, method, dpo, metric) as canonical,
    language, model, main.printed_size(model) as size_class, method, dpo, metric, value, is_score
from printed;

comment on view main.printed_values is
'One row per paper table, cell and metric: the printed value, avg recomputed from the five printed aspects. canonical marks the first table that prints a cell.';
