create or replace view main.text_statistics as
with
means as (
    select
        origin, statement, sign,
        avg(value) as mean, count(value) as n_cells, count(*) as n_cells_published
    from main.statement_cells
    group by origin, statement, sign
),
results as (
    select
        origin, statement,
        -- NULL if one side has no cell
        case when bool_or(mean is null) then null else sum(sign * mean) end as value,
        sum(n_cells)::bigint as n_cells,
        sum(n_cells_published)::bigint as n_cells_published
    from means
    group by origin, statement
)
select
    results.origin, claims.section, claims.text as statement, claims.metric, claims.claim, claims.printed, results.value,
    case claims.claim
        when 'equals' then abs(results.value - claims.printed) <= 0.011
        when 'rises' then results.value > 1e-9
        when 'falls' then results.value < -1e-9
    end as agrees,
    case when results.origin = 'published' and not agrees then claims.slip end as slip,
    results.n_cells, results.n_cells_published
from results
join main.published_statements as claims on claims.statement = results.statement
order by results.origin desc, results.statement;

comment on view main.text_statistics is
'One row per origin (published, ours) and sentence of the paper: the value recomputed from that origin''s cells (means over models and languages, differences between sizes or DPO states), what the paper claims, and whether the two agree (0.011 is allowed, since printed figures are rounded). slip describes a sentence that the paper''s own cells contradict. n_cells of n_cells_published cells have a value.';
