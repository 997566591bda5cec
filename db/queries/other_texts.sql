-- Answered queries of one data set and language whose text differs from the one given for the same id.
with
given as (
    select unnest(?::varchar[]) as query_id, unnest(?::varchar[]) as instruction
)
select stored.query_id
from raw.queries as stored
join given on given.query_id = stored.query_id
where stored.dataset = ? and stored.language = ? and stored.instruction <> given.instruction
    and exists (select 1 from raw.responses as response where response.query_key = stored.query_key)
order by stored.query_id
limit 1
