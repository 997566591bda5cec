-- $1: judge_id. The last attempt at each judgment of one judge.
select judgment_id, max(attempt) as attempt, arg_max(status, attempt) as status
from raw.judgments
where judge_id = $1
group by judgment_id
