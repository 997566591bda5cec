-- $1: query keys. Those stored, each with what is known of it, and the keys of the newest expectation of each.
select query_key as key, task is not null as has_task, tags is not null as has_tags
from raw.queries
where list_contains($1::varchar[], query_key)
union all
select expectation_id as key, true as has_task, true as has_tags
from main.expectations
where list_contains($1::varchar[], query_key)
