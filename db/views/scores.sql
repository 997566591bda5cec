create or replace view main.scores as
select
    judge, template, repeat, attempt, status,
    unnest(metrics) as metric,
    unnest(scores) as score,
    unnest(not_applicable) as not_applicable,
    unnest(reasons) as reason,
    response_id, judgment_id, judge_id, template_sha256
from main.verdicts;

comment on view main.scores is
'One row per response, judge, template, repeat and aspect: the metrics of view verdicts as rows. score is NULL if the judge gave none.';
