create or replace view main.error_rates as
with
counts as (
    select cell_id, error, count(*) filter (where failed) as n_errors, count(*) as n
    from main.response_errors
    group by cell_id, error
)
select
    cells.model, cells.quantization, cells.method, cells.language, cells.dpo, cells.dataset,
    counts.error,
    100.0 * n_errors / n as percent,
    n_errors,
    n,
    100 * main.wilson_bound(n_errors, n, -1.959963984540054) as ci_low,
    100 * main.wilson_bound(n_errors, n, 1.959963984540054) as ci_high,
    cells.size_class, cells.in_paper_tables, cells.settings_id, counts.cell_id
from counts
join main.cells as cells on cells.cell_id = counts.cell_id;

comment on view main.error_rates is
'One row per cell (see cells) and error, also at zero: percent of n responses, with its 95 % Wilson interval ci_low to ci_high in percent. What counts is said at response_errors. infinite_loop_literal is the literal reading, any sequence repeated more than 5 times. in_paper_tables, cell_id: see cells.';
