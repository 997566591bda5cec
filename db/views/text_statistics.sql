create or replace view main.text_statistics as
with
cells as (
    select origin, language, model, size_class, method, dpo, metric, value
    from main.paper_scores
    where canonical
    union all
    select origin, language, model, size_class, method, dpo, error, percent
    from main.paper_errors
    where canonical
),
-- the sentences are about the paper's cells, whatever else was run
comparable as (
    select cells.origin, cells.language, cells.model, printed.size_class, cells.method, cells.dpo, cells.metric, cells.value
    from cells
    join cells as printed
        on printed.origin = 'published' and printed.language = cells.language and printed.model = cells.model
        and printed.method = cells.method and printed.dpo = cells.dpo and printed.metric = cells.metric
),
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
means as (
    select origin.origin, sides.statement, sides.sign, avg(comparable.value) as mean, count(comparable.value) as n_cells
    from sides
    cross join (values ('ours'), ('published')) as origin (origin)
    left join comparable
        on comparable.origin = origin.origin and comparable.metric = sides.metric
        and comparable.method = sides.method and comparable.dpo = sides.dpo
        and list_contains(sides.languages, comparable.language)
        and comparable.size_class = coalesce(sides.size, comparable.size_class)
        and comparable.model = coalesce(sides.model, comparable.model)
    group by origin.origin, sides.statement, sides.sign
),
results as (
    select
        origin, statement,
        -- NULL as soon as one side has no cell
        if(bool_or(mean is null), null, sum(sign * mean)) as value,
        sum(n_cells)::bigint as n_cells
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
    if(results.origin = 'published' and not agrees, claims.slip, null) as slip,
    results.n_cells,
    max(results.n_cells) over (partition by results.statement) as n_cells_published
from results
join main.published_statements as claims on claims.statement = results.statement
order by results.origin desc, results.statement;

comment on view main.text_statistics is
'One row an origin (published, ours) and sentence of the paper: the value recomputed from that origin''s cells (means over models and languages, differences between sizes or DPO states), what the paper claims, and whether the two agree (0.011 is allowed, since printed figures are rounded). slip says what is wrong with a sentence that the paper''s own cells contradict. n_cells of n_cells_published cells are there.';
