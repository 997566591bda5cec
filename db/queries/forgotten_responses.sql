-- Keys of responses that were forgotten and are not to come back.
select key
from raw.tombstones
where active and table_name = 'responses'
