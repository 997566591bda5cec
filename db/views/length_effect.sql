-- Least squares of the score on the length of the text: whether a judge prefers long answers.
create or replace view main.length_effect as
with points as (
    select
        scores.judge_id,
        scores.judge,
        scores.template,
        scores.template_sha256,
        scores.repeat,
        responses.language,
        scores.metric,
        scores.score,
        length(responses.text) / 1000.0 as length_1000
    from main.scores as scores
    inner join raw.responses as responses on responses.response_id = scores.response_id
    where scores.score is not null
),

fits as (
    select
        judge_id, judge, template, template_sha256, repeat, language, metric,
        count(*) as n,
        avg(length_1000) * 1000 as mean_length,
        regr_slope(score, length_1000) as slope,
        regr_intercept(score, length_1000) as intercept,
        regr_r2(score, length_1000) as r2,
        regr_sxx(score, length_1000) as sxx,
        regr_syy(score, length_1000) as syy
    from points
    group by all
)

select
    judge_id, judge, template, template_sha256, repeat, language, metric, n, mean_length,
    slope as slope_per_1000_characters,
    case when n > 2 and sxx > 0 then sqrt(greatest(syy - slope * slope * sxx, 0) / (n - 2) / sxx) end as slope_se,
    intercept,
    case when syy > 0 then r2 end as r2
from fits;

comment on view main.length_effect is
'One row per judge, template, repeat, language and aspect: regression of the score on the length of the text in characters. slope is NULL if all texts are equally long.';
