-- $1 to $5: models, methods, languages, splits, query sets; NULL takes all. Responses that a judge can score.
select response_id, split, language, instruction, text
from main.responses
where
    main.answered(finish_reason)
    and instruction is not null
    and ($1::varchar[] is null or model = any($1))
    and ($2::varchar[] is null or method = any($2))
    and ($3::varchar[] is null or language = any($3))
    and ($4::varchar[] is null or split = any($4))
    and ($5::varchar[] is null or dataset = any($5))
order by split, language, try_cast(query_id as bigint), query_id, response_id
