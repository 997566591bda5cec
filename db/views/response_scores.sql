create or replace view main.response_scores as
with
-- rules score other metrics: their millions of verdicts have no row here
template as (
    select template_sha256 from raw.judge_templates where len(list_intersect(metrics, main.judged_metrics())) > 0
),
verdict as (
    select * from main.verdicts
    where template_sha256 in (from template)
),
repeated as (
    select distinct response_id, judge_id, template_sha256 from raw.judgments where repeat > 0
),
-- few judgments are repeated, if any: millions of rows that are their own mean need no grouping
means as (
    select
        response_id, judge_id, judge, template_sha256, template,
        columns(main.judged_metrics()), columns('_with_na$'), instrument
    from verdict
    anti join repeated using (response_id, judge_id, template_sha256)
    where repeat = 0
    union all
    select
        response_id, judge_id, any_value(judge), template_sha256, any_value(template),
        avg(columns(main.judged_metrics())), avg(columns('_with_na$')), any_value(instrument)
    from verdict
    semi join repeated using (response_id, judge_id, template_sha256)
    group by response_id, judge_id, template_sha256
),
readings as (
    select
        response_id, judge_id, judge, template_sha256, template, 'strict' as reading, columns(main.judged_metrics()),
        instrument
    from means
    union all
    select
        response_id, judge_id, judge, template_sha256, template, 'just_eval', columns('^(.*)_with_na$') as '\1',
        instrument
    from means
    union all
    select
        response_id, judge_id, any_value(judge), template_sha256, any_value(template), 'expected',
        avg(columns('^(.*)_expected$')) as '\1',
        any_value(instrument)
    from verdict
    where probabilities is not null
    group by response_id, judge_id, template_sha256
)
select
    judge, template, reading,
    columns(main.aspects()),
    (helpfulness + clarity + factuality + depth + engagement) / 5 as avg,
    columns(main.other_metrics()),
    instrument,
    response_id, judge_id, template_sha256
from readings;

comment on view main.response_scores is
'One row per response, judge, template and reading: scores of the view verdicts, averaged over the judge''s repeats. Verdicts on none of the study''s metrics are left out. reading strict leaves N/A out, just_eval counts it as 5; expected is the mean of the scores by the probabilities that a local judge gave them (see verdicts), for judges that have them. avg is the mean of the five aspects, NULL if one of them is missing. instrument: see verdicts.';
