-- $1: texts. Responses with exactly one of these texts, and their instructions.
select
    responses.response_id, responses.model, responses.method, responses.language, responses.dpo,
    responses.instruction, responses.text, responses.query_id
from main.responses as responses
where list_contains($1::varchar[], responses.text)
order by responses.response_id
