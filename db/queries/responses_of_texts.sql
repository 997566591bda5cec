-- $1: texts. Responses that say exactly one of them, with what was asked.
select responses.response_id, responses.model, responses.instruction, responses.text
from main.responses as responses
where list_contains($1::varchar[], responses.text)
order by responses.response_id
