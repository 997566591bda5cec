create or replace view main.statement_cells as
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
    join main.printed_values as cell
        on cell.metric = sides.metric and cell.method = sides.method and cell.dpo = sides.dpo
        and list_contains(sides.languages, cell.language)
        and cell.size_class = coalesce(sides.size, cell.size_class)
        and cell.model = coalesce(sides.model, cell.model)
    where cell.canonical
)
select
    origins.origin, selected.statement, selected.sign, selected.language, selected.model, selected.method, selected.dpo,
    selected.metric, cell.value, cell.reading, cell.judge_id, cell.template_sha256, cell.cell_id
from (values ('published'), ('ours')) as origins (origin)
cross join selected
left join main.paper_values as cell
    on cell.origin = origins.origin and cell.canonical and cell.language = selected.language
    and cell.model = selected.model and cell.method = selected.method and cell.dpo = selected.dpo
    and cell.metric = selected.metric;

comment on view main.statement_cells is
'One row per origin (published, ours), sentence of the paper and cell that the sentence is about, with the cell''s value, NULL where that origin has none; sign is -1 for the cells that the others are compared with.';
