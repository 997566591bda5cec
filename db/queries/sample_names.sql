-- The latest sample of each name.
select name, sample_id, seed, strata
from main.latest_samples()
order by name
