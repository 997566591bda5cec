-- $1: query keys. Those stored with tags, and the keys of the newest expectation of each.
select query_key as key
from raw.queries
where list_contains($1::varchar[], query_key) and tags is not null
union all
select expectation_id as key
from main.expectations
where list_contains($1::varchar[], query_key)
