-- `icl status`: cells. $1: icl_local.store.Selection.
select
    model, quantization as quant, method, language as lang, dpo, dataset, settings_id[:6] as setup, done, wanted,
    n_infinite_loop as loops, n_unintended_code as code, n_prompt_too_long as long, n_failed as failed,
    coalesce(status, '') as process, strftime(last_created_at, '%m-%d %H:%M') as last_utc
from main.progress
where main.selected($1, model, method, language, null, dataset, quantization)
order by model, quantization, dpo, method, language, dataset, settings_id
