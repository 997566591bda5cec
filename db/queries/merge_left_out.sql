-- Keys whose rows a merge leaves out, as a table of the connection: forgotten here, or of a response whose text differs
-- in the database merge_source (differs), with the judgments of all these.
create temp table left_out as
with
responses as (
    select key, false as differs
    from raw.tombstones
    where table_name = 'responses' and active
    union
    select ours.response_id, true
    from raw.responses as ours
    join merge_source.raw.responses as their on their.response_id = ours.response_id
    where their.text is distinct from ours.text and 'error' not in (their.finish_reason, ours.finish_reason)
)
select 'response_id' as column_name, key, bool_and(differs) as differs
from responses
group by key
union all
select 'judgment_id', key, false
from raw.tombstones
where table_name = 'judgments' and active
union all
select 'judgment_id', judgment_id, false
from merge_source.raw.judgments
where response_id in (select key from responses)
