-- Queries with several responses in one cell under one draw: none, or a table would count one query twice.
select response.cell_id, query.query_id, count(*) as n_responses
from raw.responses as response
join raw.queries as query on query.query_key = response.query_key
group by response.cell_id, query.query_id, response.draw_seed, response.draw
having count(*) > 1
order by response.cell_id, query.query_id
