create or replace view main.alt_test as
with
scores as (
    select
        score.response_id, score.metric, score.judge, score.template, score.judge_id, score.template_sha256,
        avg(score.score) as f
    from main.scores as score
    join raw.judges as judges on judges.judge_id = score.judge_id and judges.backend <> 'human'
    where score.score is not null
    group by all
),
-- distance of the rater, and of the judge, from the other raters of the same response
distances as (
    select
        own.sample, own.language, own.metric, own.judge_id as rater_id, own.response_id,
        scores.judge, scores.template, scores.judge_id, scores.template_sha256,
        avg(power(own.label - other.label, 2)) as of_rater,
        avg(power(scores.f - other.label, 2)) as of_judge
    from main.sample_labels as own
    join main.sample_labels as other
        on other.sample_id = own.sample_id and other.response_id = own.response_id and other.metric = own.metric
        and other.judge_id <> own.judge_id
    join scores on scores.response_id = own.response_id and scores.metric = own.metric
    group by all
),
raters as (
    select
        sample, language, metric, judge, template, judge_id, template_sha256, rater_id,
        coalesce(getvariable('icl_epsilon'), 0.2)::double as epsilon,
        count(*) as n,
        avg((of_judge <= of_rater)::integer) as advantage,
        avg((of_rater <= of_judge)::integer - (of_judge <= of_rater)::integer) as mean_d,
        stddev_samp((of_rater <= of_judge)::integer - (of_judge <= of_rater)::integer) as sd_d
    from distances
    group by all
    having count(*) >= 30
),
tested as (
    select
        *,
        count(*) over part as m,
        case
            when sd_d = 0 then (mean_d >= epsilon)::integer::double
            else main.t_lower((mean_d - epsilon) / (sd_d / sqrt(n)), n - 1)
        end as p
    from raters
    window part as (partition by sample, language, metric, judge_id, template_sha256)
),
ranked as (
    select
        *,
        row_number() over (part order by p, rater_id) as place,
        p <= place * 0.05 / (m * list_sum(list_transform(range(1, m + 1), lambda k: 1 / k))) as below
    from tested
    window part as (partition by sample, language, metric, judge_id, template_sha256)
)
select
    sample, language, metric, judge, template,
    m as n_raters,
    coalesce(max(place) filter (where below), 0) as n_rejected,
    coalesce(max(place) filter (where below), 0) / m as winning_rate,
    coalesce(max(place) filter (where below), 0) / m >= 0.5 as passed,
    avg(advantage) as advantage,
    sum(n)::bigint as n,
    epsilon,
    case when m < 3 then 'fewer than 3 raters' end as note,
    judge_id, template_sha256
from ranked
group by sample, language, metric, judge, template, m, epsilon, judge_id, template_sha256;

comment on view main.alt_test is
'One row per sample, language, aspect, judge and template: the alternative annotator test (Calderon et al., 2025). For each of n_raters raters with 30 responses or more that others scored too: is the judge at least as near to the others as the rater, allowing for epsilon (variable icl_epsilon, 0.2 for experts)? One-sided t tests, Benjamini-Yekutieli at 0.05; passed: the judge wins for half of the raters or more. advantage: how often the judge is at least as near. n: responses over all raters.';
