create or replace view main.table_4 as
select
    cell.model, cell.method,
    errors.infinite_loop, errors.unintended_code, errors.n, errors.n_known_task,
    cell.quantization, cell.settings_id
from main.paper_cells as cell
inner join main.errors_by_cell as errors
    on errors.model = cell.model and errors.method = cell.method and errors.language = cell.language
    and errors.dpo = cell.dpo and errors.quantization = cell.quantization and errors.settings_id = cell.settings_id
where cell.language = 'en' and not cell.dpo;

comment on view main.table_4 is
'Critical errors in English, models without DPO: one row a model and method. infinite_loop and unintended_code are percent, of n and of n_known_task responses; quantization and settings_id say which of several settings is shown (most responses, then the latest).';
