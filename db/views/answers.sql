create or replace view main.answers as
select main.answer(cell.rowid, query.rowid) as answer, response.response_id
from raw.responses as response
join raw.cells as cell on cell.cell_id = response.cell_id
left join raw.queries as query on query.query_key = response.query_key
where main.answered(response.finish_reason);

comment on view main.answers is
'One row per response that has a text to judge: answer is a number of its cell and query (macros cell_of and query_of give their row numbers), for lookups; it holds until the database changes.';
