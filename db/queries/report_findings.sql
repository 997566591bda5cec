-- Best mean and worst error rates of each language.
with
metrics as (
    select *
    from (values
        (1, 'avg', 'highest five-aspect mean'),
        (2, 'infinite_loop', 'most infinite loops, %'),
        (3, 'unintended_code', 'most unintended code, %')
    ) as named (place, metric, what)
)
select
    cells.language, metrics.what, main.with_dpo(cells.model, cells.dpo) as model, cells.method, cells.value,
    cells.ci_low, cells.ci_high
from main.paper_values as cells
join metrics using (metric)
where cells.origin = 'ours' and cells.value <> 0
qualify row_number() over (
    partition by cells.language, metric order by cells.value desc, cells.model, cells.dpo, main.method_order(cells.method)
) = 1
order by cells.language <> 'en', cells.language, metrics.place
