create or replace view main.scores as
select
    response_id, judge_id, judge, template_sha256, template, repeat, judgment_id, attempt, status,
    unnest(metrics) as metric,
    unnest(scores) as score,
    unnest(not_applicable) as not_applicable,
    unnest(reasons) as reason
from main.verdicts;

comment on view main.scores is
'One row per response, judge, template, repeat and aspect: the metrics of view verdicts, one below the other. score is NULL if the judge gave none.';
