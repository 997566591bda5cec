-- $1 to $5: models, methods, languages, splits, query sets; an empty list takes all. Responses that a judge can score.
select response_id, split, language, instruction, text
from main.responses
where
    finish_reason not in ('error', 'prompt_too_long')
    and instruction is not null
    and (len($1::varchar[]) = 0 or list_contains($1::varchar[], model))
    and (len($2::varchar[]) = 0 or list_contains($2::varchar[], method))
    and (len($3::varchar[]) = 0 or list_contains($3::varchar[], language))
    and (len($4::varchar[]) = 0 or list_contains($4::varchar[], split))
    and (len($5::varchar[]) = 0 or list_contains($5::varchar[], dataset))
order by split, language, try_cast(query_id as bigint), query_id, response_id
