create or replace view main.table_8 as
with
shown as (
    select
        cell.model, cell.method, cell.language, cell.dpo, cell.quantization, cell.settings_id,
        max(rate.percent) filter (where rate.error = 'infinite_loop') as infinite_loop,
        max(rate.percent) filter (where rate.error = 'unintended_code') as unintended_code,
        max(rate.n) filter (where rate.error = 'infinite_loop') as n,
        max(rate.n) filter (where rate.error = 'unintended_code') as n_known_task
    from main.paper_cells as cell
    join main.error_rates as rate
        on rate.model = cell.model and rate.method = cell.method and rate.language = cell.language
        and rate.dpo = cell.dpo and rate.quantization = cell.quantization and rate.settings_id = cell.settings_id
    group by cell.model, cell.method, cell.language, cell.dpo, cell.quantization, cell.settings_id
)
select
    language, model, method, dpo, infinite_loop, unintended_code, n, n_known_task, quantization, settings_id
from shown;

comment on view main.table_8 is
'Critical errors without and with DPO: one row a language, model, method and dpo. infinite_loop and unintended_code are percent, of n and of n_known_task responses; quantization and settings_id say which of several settings is shown (most responses, then the latest).';
