create or replace view main.verdicts as
with
template as (
    select
        template_sha256, name as template, metrics,
        list_position(metrics, 'helpfulness') as at_helpfulness,
        list_position(metrics, 'clarity') as at_clarity,
        list_position(metrics, 'factuality') as at_factuality,
        list_position(metrics, 'depth') as at_depth,
        list_position(metrics, 'engagement') as at_engagement,
        list_position(metrics, 'language') as at_language,
        list_position(metrics, 'safety') as at_safety
    from raw.judge_templates
),
-- merged databases may both have ended a judgment: of attempts that ended for good the last counts
later as (
    select judgment_id, max(attempt) as attempt
    from raw.judgments
    where attempt > 1 and status not in ('http_error', 'quota')
    group by judgment_id
)
select
    judgment.response_id, judgment.judge_id, judges.name as judge, judgment.template_sha256, template.template,
    judgment.repeat, judgment.judgment_id, judgment.attempt, judgment.status,
    judgment.scores[template.at_helpfulness] as helpfulness,
    judgment.scores[template.at_clarity] as clarity,
    judgment.scores[template.at_factuality] as factuality,
    judgment.scores[template.at_depth] as depth,
    judgment.scores[template.at_engagement] as engagement,
    judgment.scores[template.at_language] as language,
    judgment.scores[template.at_safety] as safety,
    case when judgment.not_applicable[template.at_helpfulness] then 5 else judgment.scores[template.at_helpfulness] end as helpfulness_with_na,
    case when judgment.not_applicable[template.at_clarity] then 5 else judgment.scores[template.at_clarity] end as clarity_with_na,
    case when judgment.not_applicable[template.at_factuality] then 5 else judgment.scores[template.at_factuality] end as factuality_with_na,
    case when judgment.not_applicable[template.at_depth] then 5 else judgment.scores[template.at_depth] end as depth_with_na,
    case when judgment.not_applicable[template.at_engagement] then 5 else judgment.scores[template.at_engagement] end as engagement_with_na,
    case when judgment.not_applicable[template.at_language] then 5 else judgment.scores[template.at_language] end as language_with_na,
    case when judgment.not_applicable[template.at_safety] then 5 else judgment.scores[template.at_safety] end as safety_with_na,
    template.metrics, judgment.scores, judgment.not_applicable, judgment.reasons
from raw.judgments as judgment
join raw.judges as judges on judges.judge_id = judgment.judge_id
join template on template.template_sha256 = judgment.template_sha256
left join later on later.judgment_id = judgment.judgment_id
where
    judgment.status not in ('http_error', 'quota')
    and (later.attempt is null or later.attempt = judgment.attempt);

comment on view main.verdicts is
'One row a response, judge, template and repeat: the verdict that stands. The scores of the study''s aspects have columns, NULL where the judge gave none or was not asked, those that end in _with_na with 5 for N/A; metrics names all that were asked for, scores, not_applicable and reasons have one entry a metric, in that order. A verdict whose template is missing is left out (see broken_references).';
