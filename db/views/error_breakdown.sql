create or replace view main.error_breakdown as
with
queries as (
    select
        groups.dimension, groups.value, outcome.cell_id, outcome.error, outcome.drawn_query,
        count(*) filter (where outcome.failed) as n_errors,
        count(*) as n
    from main.response_errors as outcome
    join main.response_groups as groups on groups.response_id = outcome.response_id
    group by all
),
counts as (
    select dimension, value, cell_id, error, main.share_sums(drawn_query, n_errors, n) as sums
    from queries
    group by all
)
select
    counts.dimension, counts.value, cell.model, cell.method, cell.language, cell.dpo, counts.error,
    100.0 * sums.s / sums.n_queries as percent,
    sums.n_errors,
    sums.n,
    main.share_bound(sums, -1) as ci_low,
    main.share_bound(sums, 1) as ci_high,
    cell.quantization, cell.settings_id
from counts
join main.paper_cells as cell on cell.cell_id = counts.cell_id;

comment on view main.error_breakdown is
'One row per group of responses (dimension and value, see response_groups), cell of paper_cells and error: percent of n responses with its 95 % Wilson interval, draws of a query as in error_rates. See response_errors for what counts.';
