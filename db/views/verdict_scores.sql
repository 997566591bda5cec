create or replace view main.verdict_scores as
select
    judge, template,
    unnest(list_append(metrics, 'avg')) as metric,
    unnest(list_append(scores, (helpfulness + clarity + factuality + depth + engagement) / 5)) as score,
    repeat, response_id, judge_id, template_sha256
from main.verdicts;

comment on view main.verdict_scores is
'One row per verdict (see verdicts) and metric of its template, and one for avg, the mean of the five aspects: the score, NULL where the judge gave none (N/A) or an aspect is missing.';
