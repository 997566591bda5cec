create or replace view main.error_breakdown as
with
counts as (
    select
        groups.dimension, groups.value, outcome.cell_id, outcome.error,
        count(*) filter (where outcome.failed) as n_errors,
        count(*) as n
    from main.response_errors as outcome
    join main.response_groups as groups on groups.response_id = outcome.response_id
    group by all
)
select
    counts.dimension, counts.value, cell.model, cell.method, cell.language, cell.dpo, counts.error,
    100.0 * n_errors / n as percent,
    n_errors,
    n,
    100 * main.wilson_bound(n_errors, n, -1.959963984540054) as ci_low,
    100 * main.wilson_bound(n_errors, n, 1.959963984540054) as ci_high,
    cell.quantization, cell.settings_id
from counts
join main.paper_cells as cell on cell.cell_id = counts.cell_id;

comment on view main.error_breakdown is
'One row per group of responses (dimension and value, see response_groups), cell of paper_cells and error: percent of n responses with its 95 % Wilson interval. See response_errors for what counts.';
