create or replace view main.response_scores as
with
verdicts as (
    select
        response_id, judge_id, judge, template_sha256, template,
        avg(score) filter (where metric = 'helpfulness') as helpfulness,
        avg(score) filter (where metric = 'clarity') as clarity,
        avg(score) filter (where metric = 'factuality') as factuality,
        avg(score) filter (where metric = 'depth') as depth,
        avg(score) filter (where metric = 'engagement') as engagement,
        avg(score) filter (where metric = 'language') as language,
        avg(score) filter (where metric = 'safety') as safety,
        avg(if(not_applicable, 5, score)) filter (where metric = 'helpfulness') as helpfulness_with_na,
        avg(if(not_applicable, 5, score)) filter (where metric = 'clarity') as clarity_with_na,
        avg(if(not_applicable, 5, score)) filter (where metric = 'factuality') as factuality_with_na,
        avg(if(not_applicable, 5, score)) filter (where metric = 'depth') as depth_with_na,
        avg(if(not_applicable, 5, score)) filter (where metric = 'engagement') as engagement_with_na,
        avg(if(not_applicable, 5, score)) filter (where metric = 'language') as language_with_na,
        avg(if(not_applicable, 5, score)) filter (where metric = 'safety') as safety_with_na
    from main.scores
    group by response_id, judge_id, judge, template_sha256, template
),
readings as (
    select
        response_id, judge_id, judge, template_sha256, template, 'strict' as reading,
        helpfulness, clarity, factuality, depth, engagement, language, safety
    from verdicts
    union all
    select
        response_id, judge_id, judge, template_sha256, template, 'just_eval',
        helpfulness_with_na, clarity_with_na, factuality_with_na, depth_with_na, engagement_with_na,
        language_with_na, safety_with_na
    from verdicts
)
select
    response_id, judge_id, judge, template_sha256, template, reading,
    helpfulness, clarity, factuality, depth, engagement,
    (helpfulness + clarity + factuality + depth + engagement) / 5 as avg,
    language, safety
from readings;

comment on view main.response_scores is
'One row a response, judge, template and reading: its scores side by side, each the mean over the judge''s repeats. reading strict leaves N/A out, just_eval counts it as 5. avg is the mean of the five aspects, NULL where one of them is missing.';
