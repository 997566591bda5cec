-- Two raters on the same responses; a rater is a judge with a template and a repeat number, so repeats of one judge
-- are its self-consistency.
create or replace view main.judge_agreement as
with
rated as (
    select
        scores.response_id, scores.judge_id, scores.judge, judges.backend, scores.template, scores.template_sha256,
        scores.repeat, scores.metric, scores.score, answers.language,
        coalesce(clusters.cluster, answers.query_key) as query
    from main.scores as scores
    join raw.judges as judges on judges.judge_id = scores.judge_id
    join raw.responses as answers on answers.response_id = scores.response_id
    left join main.query_clusters as clusters on clusters.query_key = answers.query_key
    where scores.score is not null
),
by_query as (
    select
        a.judge as judge_a, b.judge as judge_b, a.backend as backend_a, b.backend as backend_b,
        a.judge_id as judge_id_a, b.judge_id as judge_id_b, a.template as template_a, b.template as template_b,
        a.template_sha256 as template_sha256_a, b.template_sha256 as template_sha256_b,
        a.repeat as repeat_a, b.repeat as repeat_b, a.language, a.metric, a.query,
        main.agreement_sums(a.score, b.score) as own,
        count(*) filter (where a.score = b.score) as n_equal,
        count(*) filter (where a.score = 5) + count(*) filter (where b.score = 5) as n_top
    from rated as a
    join rated as b
        on b.response_id = a.response_id
        and b.metric = a.metric
        and (a.judge, a.judge_id, a.template_sha256, a.repeat) < (b.judge, b.judge_id, b.template_sha256, b.repeat)
    group by all
),
totals as (
    select
        * exclude (query, own, n_equal, n_top),
        count(*) as n_queries,
        sum(own.n)::bigint as n, sum(own.a) as a, sum(own.b) as b,
        sum(own.aa) as aa, sum(own.bb) as bb, sum(own.ab) as ab,
        sum(n_equal) as n_equal,
        sum(n_top) as n_top,
        list(own) as queries
    from by_query
    group by all
),
without_one as (
    select
        * exclude (queries),
        unnest(queries) as own
    from totals
),
estimates as (
    select
        * exclude (own),
        main.agreement_of(n, a, b, aa, bb, ab) as whole,
        case when n > own.n then main.agreement_of(
            n - own.n, a - own.a, b - own.b, aa - own.aa, bb - own.bb, ab - own.ab
        ) end as part
    from without_one
),
halves as (
    select
        * exclude (part),
        main.jackknife_half(part.kappa) as kappa_half,
        main.jackknife_half(part.alpha) as alpha_half,
        main.jackknife_half(part.r) as r_half
    from estimates
    group by all
)
select
    language, metric, judge_a, judge_b, backend_a, backend_b, template_a, template_b, repeat_a, repeat_b, n, n_queries,
    n_equal / n as exact_agreement,
    whole.kappa as kappa_quadratic,
    main.agreement_low(whole.kappa, kappa_half) as kappa_low,
    main.agreement_high(whole.kappa, kappa_half) as kappa_high,
    whole.alpha as alpha_interval,
    main.agreement_low(whole.alpha, alpha_half) as alpha_low,
    main.agreement_high(whole.alpha, alpha_half) as alpha_high,
    whole.r as r,
    main.agreement_low(whole.r, r_half) as r_low,
    main.agreement_high(whole.r, r_half) as r_high,
    n_top / (2 * n) as share_top,
    a / n as mean_a,
    b / n as mean_b,
    (b - a) / n as mean_difference,
    judge_id_a, judge_id_b, template_sha256_a, template_sha256_b
from halves;

comment on view main.judge_agreement is
'One row per pair of raters (judge, template, repeat), language and aspect, over the n responses that both scored. kappa: Cohen, quadratic weights; alpha: Krippendorff, interval data; r: Pearson; with 95 % intervals of the jackknife over n_queries queries, NULL under 10. All are NULL where no score varies; where most scores are 5 (share_top), kappa and alpha are low though raters agree. backend human: a person.';
