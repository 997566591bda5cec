create or replace view main.draw_diversity as
with
loops as (
    select response_id, failed from main.response_errors where main.shown_error(error) = 'infinite_loop'
),
queries as (
    select
        response.cell_id, response.query_key,
        count(*) as draws,
        count(distinct response.text) as texts,
        count(*) filter (where loops.failed) as looping
    from raw.responses as response
    join loops on loops.response_id = response.response_id
    where response.draw is not null
    group by response.cell_id, response.query_key
),
counts as (
    select
        cell_id,
        count(*) as n_queries,
        avg(draws) as draws,
        avg(texts) as distinct_texts,
        count(*) filter (where looping = draws) as loops_in_all,
        count(*) filter (where looping between 1 and draws - 1) as loops_in_some,
        count(*) filter (where looping = 0) as loops_in_none
    from queries
    group by cell_id
)
select
    cells.model, cells.quantization, cells.method, cells.language, cells.dpo, cells.dataset, cells.temperature,
    counts.n_queries, counts.draws, counts.distinct_texts, counts.loops_in_all, counts.loops_in_some,
    counts.loops_in_none, cells.settings_id, counts.cell_id
from counts
join main.cells as cells on cells.cell_id = counts.cell_id
order by
    cells.model, cells.language, cells.dpo, main.method_order(cells.method), cells.method, cells.temperature,
    counts.cell_id;

comment on view main.draw_diversity is
'One row per cell of sampled responses: how many draws a query has and how many of their texts differ, as means over n_queries queries, and the number of queries that loop (variable icl_loops) in all draws, in some and in none.';
