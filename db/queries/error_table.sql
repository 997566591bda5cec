-- $1..$3: models, methods, languages (lists); NULL takes all. Percent under both readings of a loop, and unintended code.
select
    model, quantization as quant, method, language as lang, dpo, settings_id[:6] as setup,
    infinite_loop as loop, infinite_loop_literal as literal, unintended_code as code, n, n_known_task as n_code
from main.errors_by_cell
where
    ($1::varchar[] is null or model = any($1))
    and ($2::varchar[] is null or method = any($2))
    and ($3::varchar[] is null or language = any($3))
order by model, quantization, dpo, method, language, settings_id
