-- The latest sample of each name.
select name, sample_id, seed, strata
from raw.samples
qualify row_number() over (partition by name order by created_at desc, sample_id) = 1
order by name
