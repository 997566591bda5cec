create or replace view main.method_cells as
with
candidates as (
    select
        main.method_family(cells) as family, cells.method, cells.n_responses, cells.last_created_at, named.rowid as cell, cells.cell_id
    from main.cells as cells
    join raw.cells as named on named.cell_id = cells.cell_id
)
select family, method, cell, cell_id
from candidates
qualify
    row_number() over (partition by family, method order by n_responses desc, last_created_at desc, cell_id) = 1
    and bool_or(main.has_parameters(method)) over (partition by family);

comment on view main.method_cells is
'One row per family (model, type, language, dpo, query set, settings, method without parameters) and method of it, where the family has methods with parameters: of several cells the one with most responses, then the latest. cell is the row number of raw.cells, for joins; it holds until the database changes.';
