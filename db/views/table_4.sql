create or replace view main.table_4 as
select model, method, infinite_loop, unintended_code, n, n_known_task, quantization, settings_id
from main.paper_error_rows
where
    origin = main.shown_origin() and coalesce(paper_table, 'table_4') = 'table_4'
    and language = 'en' and not dpo;

comment on view main.table_4 is
'Critical errors in English, models without DPO: one row per model and method. infinite_loop and unintended_code are percent, of n and of n_known_task responses; quantization and settings_id name the one shown of several (most responses, then the latest).';
