create or replace view main.error_rates as
with
z as (
    select 1.959963984540054 as z
),
counts as (
    select cell_id, error, count(*) filter (where failed) as n_errors, count(*) as n
    from main.response_errors
    group by cell_id, error
),
wilson as (
    select
        cell_id, error, n_errors, n,
        (n_errors + z * z / 2) / (n + z * z) as middle,
        z * sqrt(n_errors * (n - n_errors) / n + z * z / 4) / (n + z * z) as half
    from counts, z
)
select
    cells.model, cells.quantization, cells.method, cells.language, cells.dpo, cells.settings_id, wilson.error,
    100.0 * n_errors / n as percent,
    n_errors,
    n,
    100 * greatest(0, middle - half) as ci_low,
    100 * least(1, middle + half) as ci_high,
    cells.size_class, cells.in_paper_tables, wilson.cell_id
from wilson
join main.cells as cells on cells.cell_id = wilson.cell_id;

comment on view main.error_rates is
'One row a model, quantization, method, language, dpo, settings_id and error, also at zero: percent of n responses, with its 95 % Wilson interval ci_low to ci_high in percent. What counts is said at response_errors. infinite_loop_literal is the literal reading, any sequence repeated more than 5 times. in_paper_tables, cell_id: see cells.';
