create or replace view main.paper_cells as
select
    model, method, language, dpo, quantization, size_class, n_responses, n_multi, n_safety,
    last_created_at, settings_id, cell_id
from main.cells
where in_paper_tables;

comment on view main.paper_cells is
'One row per model, method, language and dpo: the cell shown in the paper''s tables, see cells.';
