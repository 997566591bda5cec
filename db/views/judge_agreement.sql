-- Two raters on the same responses; a rater is a judge with a template and a repeat number, so repeats of one judge
-- are its self-consistency. kappa: Cohen, quadratic weights. alpha: Krippendorff, interval.
create or replace view main.judge_agreement as
with rated as (
    select response_id, judge_id, judge, template, template_sha256, repeat, metric, score
    from main.scores
    where score is not null
),

pairs as (
    select
        a.judge as judge_a,
        b.judge as judge_b,
        a.judge_id as judge_id_a,
        b.judge_id as judge_id_b,
        a.template as template_a,
        b.template as template_b,
        a.template_sha256 as template_sha256_a,
        b.template_sha256 as template_sha256_b,
        a.repeat as repeat_a,
        b.repeat as repeat_b,
        a.metric,
        a.score as score_a,
        b.score as score_b
    from rated as a
    inner join rated as b
        on b.response_id = a.response_id
        and b.metric = a.metric
        and (a.judge, a.judge_id, a.template_sha256, a.repeat) < (b.judge, b.judge_id, b.template_sha256, b.repeat)
),

sums as (
    select
        judge_a, judge_b, judge_id_a, judge_id_b, template_a, template_b, template_sha256_a, template_sha256_b,
        repeat_a, repeat_b, metric,
        count(*) as n,
        avg((score_a = score_b)::integer) as exact_agreement,
        avg(score_a) as mean_a,
        avg(score_b) as mean_b,
        avg((score_a - score_b) * (score_a - score_b)) as squared_difference,
        var_pop(score_a) as variance_a,
        var_pop(score_b) as variance_b,
        sum(score_a + score_b) as total,
        sum(score_a * score_a + score_b * score_b) as total_squares
    from pairs
    group by all
),

expected as (
    select
        *,
        variance_a + variance_b + (mean_a - mean_b) * (mean_a - mean_b) as squared_difference_by_chance,
        2 * (2 * n * total_squares - total * total) / (2 * n * (2 * n - 1)) as squared_difference_of_all
    from sums
)

select
    judge_a, judge_b, template_a, template_b, repeat_a, repeat_b, metric, n, exact_agreement,
    1 - squared_difference / nullif(squared_difference_by_chance, 0) as kappa_quadratic,
    1 - squared_difference / nullif(squared_difference_of_all, 0) as alpha_interval,
    mean_a,
    mean_b,
    mean_b - mean_a as mean_difference,
    judge_id_a, judge_id_b, template_sha256_a, template_sha256_b
from expected;

comment on view main.judge_agreement is
'One row per pair of raters (judge, template, repeat) and aspect, over the responses that both scored. kappa and alpha are NULL if no score varies.';
