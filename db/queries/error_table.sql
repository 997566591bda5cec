-- $1: icl_local.store.Selection. Percent under both readings of a loop, and unintended code.
select
    model, quantization as quant, method, language as lang, dpo, settings_id[:6] as setup,
    infinite_loop as loop, infinite_loop_literal as literal, unintended_code as code, n, n_known_task as n_code
from main.errors_by_cell
where
    main.selected($1, model, method, language, null, dataset, quantization)
order by model, quantization, dpo, method, language, settings_id
