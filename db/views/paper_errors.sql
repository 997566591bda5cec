create or replace view main.paper_errors as
with
ours as (
    select
        language, model, size_class, method, dpo, main.shown_error(error) as error, percent, ci_low, ci_high,
        n_errors, n, quantization, settings_id, dataset, cell_id
    from main.error_rates
    where in_paper_tables and main.shown_error(error) is not null
)
select
    'ours' as origin, null::varchar as paper_table, true as canonical,
    language, model, size_class, method, dpo, error, percent, ci_low, ci_high, n_errors, n, quantization, settings_id,
    dataset, cell_id
from ours
union all
select
    'published', paper_table, canonical, language, model, size_class, method, dpo, metric, value,
    null, null, null, null, 'none', null, null, null
from main.printed_values
where not is_score;

comment on view main.paper_errors is
'One row per origin (ours, published), paper table, cell and error (infinite_loop, unintended_code): the rates behind Tables 4, 6, 8 in percent. ours: the cells of paper_cells, loops by the variable icl_loops (strict or literal; see error_rates), 95 % Wilson interval; published: as printed, canonical marks the first table that prints a cell.';
