-- $1 to $5: models, methods, languages, splits, query sets; NULL takes all.
select * exclude (cell_id)
from main.responses
where
    ($1::varchar[] is null or model = any($1))
    and ($2::varchar[] is null or method = any($2))
    and ($3::varchar[] is null or language = any($3))
    and ($4::varchar[] is null or split = any($4))
    and ($5::varchar[] is null or dataset = any($5))
order by
    model, quantization, dpo, method, language, settings_id, dataset, split,
    try_cast(query_id as bigint), query_id, response_id
