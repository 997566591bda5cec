select distinct judges.name
from raw.judgments as judgments
join raw.judges as judges using (judge_id)
order by judges.name
