-- $1 to $4: models, methods, languages, splits; an empty list takes all. What a judge can be asked about.
select response_id, split, language, instruction, text
from main.responses
where
    finish_reason not in ('error', 'prompt_too_long')
    and instruction is not null
    and (len($1::varchar[]) = 0 or list_contains($1::varchar[], model))
    and (len($2::varchar[]) = 0 or list_contains($2::varchar[], method))
    and (len($3::varchar[]) = 0 or list_contains($3::varchar[], language))
    and (len($4::varchar[]) = 0 or list_contains($4::varchar[], split))
order by split, language, try_cast(query_id as bigint), query_id, response_id
