create or replace view main.response_scores as
with
repeated as (
    select distinct response_id, judge_id, template_sha256 from raw.judgments where repeat > 0
),
-- few judgments are repeated, if any: millions of rows that are their own mean need no grouping
means as (
    select
        response_id, judge_id, judge, template_sha256, template,
        helpfulness, clarity, factuality, depth, engagement, language, safety,
        helpfulness_with_na, clarity_with_na, factuality_with_na, depth_with_na, engagement_with_na,
        language_with_na, safety_with_na
    from main.verdicts
    anti join repeated using (response_id, judge_id, template_sha256)
    where repeat = 0
    union all
    select
        response_id, judge_id, any_value(judge), template_sha256, any_value(template),
        avg(helpfulness), avg(clarity), avg(factuality), avg(depth), avg(engagement), avg(language), avg(safety),
        avg(helpfulness_with_na), avg(clarity_with_na), avg(factuality_with_na), avg(depth_with_na),
        avg(engagement_with_na), avg(language_with_na), avg(safety_with_na)
    from main.verdicts
    semi join repeated using (response_id, judge_id, template_sha256)
    group by response_id, judge_id, template_sha256
),
readings as (
    select
        response_id, judge_id, judge, template_sha256, template, 'strict' as reading,
        helpfulness, clarity, factuality, depth, engagement, language, safety
    from means
    union all
    select
        response_id, judge_id, judge, template_sha256, template, 'just_eval',
        helpfulness_with_na, clarity_with_na, factuality_with_na, depth_with_na, engagement_with_na,
        language_with_na, safety_with_na
    from means
)
select
    response_id, judge_id, judge, template_sha256, template, reading,
    helpfulness, clarity, factuality, depth, engagement,
    (helpfulness + clarity + factuality + depth + engagement) / 5 as avg,
    language, safety
from readings;

comment on view main.response_scores is
'One row a response, judge, template and reading: the view verdicts, each the mean over the judge''s repeats. reading strict leaves N/A out, just_eval counts it as 5. avg is the mean of the five aspects, NULL where one of them is missing.';
