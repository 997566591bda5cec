create or replace view main.scores as
select
    response_id, judge_id, judge, template_sha256, template, repeat, judgment_id, attempt, status,
    unnest(metrics) as metric,
    unnest(scores) as score,
    unnest(not_applicable) as not_applicable,
    unnest(reasons) as reason
from main.verdicts;

comment on view main.scores is
'One row a response, judge, template, repeat and aspect: the verdict that stands. score is NULL where the judge gave none.';
