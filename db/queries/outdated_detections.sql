-- $1: the present detector version. Responses whose critical errors were found by an older one, or never.
with
present as (
    select response_id
    from raw.critical_errors
    where try_cast(string_split(detector_version, '.') as integer[]) >= string_split($1, '.')::integer[]
    group by response_id
    having count(*) >= 3
)
select response_id, text
from raw.responses
where finish_reason <> 'error' and response_id not in (select response_id from present)
order by response_id
