-- $1..$3: models, methods, languages (lists); $4: error. NULL takes all, of the errors those that count by the default
-- reading of a loop.
select
    response_id, model, quantization, method, language, dpo, query_id, error, coalesce(kind, '') as kind, start_char,
    copies, span, reaches_end, unit, text, raw_text
from main.critical_errors
where
    ($1::varchar[] is null or model = any($1))
    and ($2::varchar[] is null or method = any($2))
    and ($3::varchar[] is null or language = any($3))
    and if($4::varchar is null, error <> 'infinite_loop_literal', error = $4)
    and counted
order by model, quantization, dpo, method, language, error, try_cast(query_id as bigint), query_id, response_id
