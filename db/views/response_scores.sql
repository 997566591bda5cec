create or replace view main.response_scores as
with
-- aspects become columns before anything is joined: ten million scores are two million judgments
attempts as (
    select
        judgment_id, attempt,
        max(score) filter (where metric = 'helpfulness') as helpfulness,
        max(score) filter (where metric = 'clarity') as clarity,
        max(score) filter (where metric = 'factuality') as factuality,
        max(score) filter (where metric = 'depth') as depth,
        max(score) filter (where metric = 'engagement') as engagement,
        max(score) filter (where metric = 'language') as language,
        max(score) filter (where metric = 'safety') as safety,
        max(case when not_applicable then 5 else score end) filter (where metric = 'helpfulness') as helpfulness_with_na,
        max(case when not_applicable then 5 else score end) filter (where metric = 'clarity') as clarity_with_na,
        max(case when not_applicable then 5 else score end) filter (where metric = 'factuality') as factuality_with_na,
        max(case when not_applicable then 5 else score end) filter (where metric = 'depth') as depth_with_na,
        max(case when not_applicable then 5 else score end) filter (where metric = 'engagement') as engagement_with_na,
        max(case when not_applicable then 5 else score end) filter (where metric = 'language') as language_with_na,
        max(case when not_applicable then 5 else score end) filter (where metric = 'safety') as safety_with_na
    from raw.scores
    group by judgment_id, attempt
),
repeated as (
    select judgment_id, max(attempt) as last_attempt
    from raw.scores
    group by judgment_id
    having min(attempt) < max(attempt)
),
verdicts as (
    select
        judgment.response_id, judgment.judge_id, judgment.template_sha256,
        avg(attempt.helpfulness) as helpfulness,
        avg(attempt.clarity) as clarity,
        avg(attempt.factuality) as factuality,
        avg(attempt.depth) as depth,
        avg(attempt.engagement) as engagement,
        avg(attempt.language) as language,
        avg(attempt.safety) as safety,
        avg(attempt.helpfulness_with_na) as helpfulness_with_na,
        avg(attempt.clarity_with_na) as clarity_with_na,
        avg(attempt.factuality_with_na) as factuality_with_na,
        avg(attempt.depth_with_na) as depth_with_na,
        avg(attempt.engagement_with_na) as engagement_with_na,
        avg(attempt.language_with_na) as language_with_na,
        avg(attempt.safety_with_na) as safety_with_na
    from attempts as attempt
    join raw.judgments as judgment using (judgment_id, attempt)
    left join repeated on repeated.judgment_id = attempt.judgment_id
    where attempt.attempt = coalesce(repeated.last_attempt, attempt.attempt)
    group by judgment.response_id, judgment.judge_id, judgment.template_sha256
),
readings as (
    select
        response_id, judge_id, template_sha256, 'strict' as reading,
        helpfulness, clarity, factuality, depth, engagement, language, safety
    from verdicts
    union all
    select
        response_id, judge_id, template_sha256, 'just_eval',
        helpfulness_with_na, clarity_with_na, factuality_with_na, depth_with_na, engagement_with_na,
        language_with_na, safety_with_na
    from verdicts
)
select
    readings.response_id, readings.judge_id, judges.name as judge, readings.template_sha256,
    templates.name as template, readings.reading,
    readings.helpfulness, readings.clarity, readings.factuality, readings.depth, readings.engagement,
    (readings.helpfulness + readings.clarity + readings.factuality + readings.depth + readings.engagement) / 5 as avg,
    readings.language, readings.safety
from readings
join raw.judges as judges on judges.judge_id = readings.judge_id
left join raw.judge_templates as templates on templates.template_sha256 = readings.template_sha256;

comment on view main.response_scores is
'One row a response, judge, template and reading: the standing verdicts of scores side by side, each the mean over the judge''s repeats. reading strict leaves N/A out, just_eval counts it as 5. avg is the mean of the five aspects, NULL where one of them is missing.';
