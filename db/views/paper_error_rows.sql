create or replace view main.paper_error_rows as
select
    origin, paper_table, language, model, size_class, method, dpo,
    max(percent) filter (where error = 'infinite_loop') as infinite_loop,
    max(percent) filter (where error = 'unintended_code') as unintended_code,
    max(n) filter (where error = 'infinite_loop') as n,
    max(n) filter (where error = 'unintended_code') as n_known_task,
    quantization, settings_id
from main.paper_errors
group by origin, paper_table, language, model, size_class, method, dpo, quantization, settings_id
order by
    language <> 'en', language, size_class nulls last, model,
    main.method_order(method), method, dpo;

comment on view main.paper_error_rows is
'One row per origin (ours, published), paper table and cell: the rows of Tables 4, 6 and 8, errors side by side in percent of n responses and of the n_known_task responses whose query has a known task.';
