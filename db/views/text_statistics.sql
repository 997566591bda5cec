create or replace view main.text_statistics as
with
sides as (
    select statement, 1 as sign, metric, size, model, languages, method, dpo
    from main.published_statements
    union all
    select
        statement, -1, metric, coalesce(than_size, size), model, coalesce(than_languages, languages), method,
        coalesce(than_dpo, dpo)
    from main.published_statements
    where than_size is not null or than_languages is not null or than_dpo is not null
),
-- the sentences are about the paper's cells only
selected as (
    select
        sides.statement, sides.sign, cell.language, cell.model, cell.method, cell.dpo, cell.metric
    from sides
    join main.paper_values as cell
        on cell.metric = sides.metric and cell.method = sides.method and cell.dpo = sides.dpo
        and list_contains(sides.languages, cell.language)
        and cell.size_class = coalesce(sides.size, cell.size_class)
        and cell.model = coalesce(sides.model, cell.model)
    where cell.origin = 'published' and cell.canonical
),
means as (
    select
        origins.origin, selected.statement, selected.sign,
        avg(cell.value) as mean, count(cell.value) as n_cells, count(*) as n_cells_published
    from (values ('published'), ('ours')) as origins (origin)
    cross join selected
    left join main.paper_values as cell
        on cell.origin = origins.origin and cell.canonical and cell.language = selected.language
        and cell.model = selected.model and cell.method = selected.method and cell.dpo = selected.dpo
        and cell.metric = selected.metric
    group by origins.origin, selected.statement, selected.sign
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
