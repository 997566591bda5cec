-- $1: list of response ids.
select model, quantization, method, language, dataset, query_id, finish_reason, response_id
from main.responses
where list_contains($1::varchar[], response_id)
order by model, quantization, method, language, dataset, try_cast(query_id as bigint), query_id, response_id
