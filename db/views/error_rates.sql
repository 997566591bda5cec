create or replace view main.error_rates as
with
queries as (
    select
        cell_id, error, drawn_query,
        count(*) filter (where failed) as n_errors,
        count(*) as n
    from main.response_errors
    group by cell_id, error, drawn_query
),
counts as (
    select cell_id, error, main.share_sums(drawn_query, n_errors, n) as sums
    from queries
    group by cell_id, error
)
select
    cells.model, cells.quantization, cells.method, cells.language, cells.dpo, cells.dataset,
    counts.error,
    100.0 * sums.s / sums.n_queries as percent,
    sums.n_errors,
    sums.n,
    main.share_bound(sums, -1) as ci_low,
    main.share_bound(sums, 1) as ci_high,
    cells.size_class, cells.in_paper_tables, cells.settings_id, counts.cell_id, sums.n_queries
from counts
join main.cells as cells on cells.cell_id = counts.cell_id;

comment on view main.error_rates is
'One row per cell (see cells) and error, also at zero: percent of n responses, with its 95 % Wilson interval ci_low to ci_high in percent. Of sampled responses it is the mean of the shares of n_queries queries, whose draws are one observation. See response_errors for what counts. infinite_loop_literal is the literal reading, any sequence repeated more than 5 times. in_paper_tables, cell_id: see cells.';
