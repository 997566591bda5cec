select response.cell_id, query.query_id, response.response_id
from raw.responses as response
join raw.queries as query on query.query_key = response.query_key
where list_contains(?::varchar[], response.cell_id)
