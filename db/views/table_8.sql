create or replace view main.table_8 as
select language, model, method, dpo, infinite_loop, unintended_code, n, n_known_task, quantization, settings_id
from main.paper_error_rows
where
    origin = main.shown_origin() and coalesce(paper_table, 'table_8') = 'table_8'
;

comment on view main.table_8 is
'Critical errors without and with DPO: one row per language, model, method and dpo. infinite_loop and unintended_code are percent, of n and of n_known_task responses; quantization and settings_id name the one shown of several (most responses, then the latest).';
