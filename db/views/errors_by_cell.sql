create or replace view main.errors_by_cell as
select
    model, quantization, method, language, dpo, dataset,
    max(percent) filter (where error = 'infinite_loop') as infinite_loop,
    max(percent) filter (where error = 'infinite_loop_literal') as infinite_loop_literal,
    max(percent) filter (where error = 'unintended_code') as unintended_code,
    max(n) filter (where error = 'infinite_loop') as n,
    max(n) filter (where error = 'unintended_code') as n_known_task,
    settings_id, cell_id
from main.error_rates
group by model, quantization, method, language, dpo, settings_id, dataset, cell_id;

comment on view main.errors_by_cell is
'One row per cell (see cells): error_rates side by side, loops in percent of n responses under both readings, unintended code in percent of the n_known_task responses whose query has a known task.';
