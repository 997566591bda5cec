-- $1: judge_id. The last attempt at each judgment of one judge; for rules the expectation that it was scored with.
select
    judgment_id, max(attempt) as attempt, arg_max(status, attempt) as status,
    arg_max(case when structured = 'rules' then parameters ->> '$.expectation' end, attempt) as expectation
from raw.judgments
where judge_id = $1
group by judgment_id
