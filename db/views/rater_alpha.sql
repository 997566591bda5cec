create or replace view main.rater_alpha as
with
items as (
    select
        sample, language, metric, query, response_id,
        count(*) as m, sum(label) as s, sum(label * label) as q,
        count(*) / (count(*) - 1) * main.centered(count(*), sum(label), sum(label * label)) as within,
        list(judge_id) as raters
    from main.sample_labels
    group by sample, language, metric, query, response_id
    having count(*) > 1
),
queries as (
    select
        sample, language, metric,
        {'items': count(*), 'n': sum(m), 's': sum(s), 'q': sum(q), 'within': sum(within)} as own,
        flatten(list(raters)) as raters
    from items
    group by sample, language, metric, query
),
totals as (
    select
        sample, language, metric,
        sum(own.items)::bigint as n_items,
        len(list_distinct(flatten(list(raters)))) as n_raters,
        sum(own.n) as n, sum(own.s) as s, sum(own.q) as q, sum(own.within) as within,
        list(own) as queries
    from queries
    group by sample, language, metric
),
without_one as (
    select * exclude (queries), unnest(queries) as own from totals
),
estimates as (
    select
        sample, language, metric, n_items, n_raters,
        main.alpha_of(n, s, q, within) as alpha,
        main.jackknife_half(
            case when n > own.n then main.alpha_of(n - own.n, s - own.s, q - own.q, within - own.within) end
        ) as half
    from without_one
    group by sample, language, metric, n_items, n_raters, n, s, q, within
)
select
    sample, language, metric, n_items, n_raters, alpha,
    main.agreement_low(alpha, half) as ci_low,
    main.agreement_high(alpha, half) as ci_high
from estimates;

comment on view main.rater_alpha is
'One row per sample, language and aspect: Krippendorff''s alpha (interval data) of the human raters over the n_items responses that two or more scored, with the 95 % interval of the jackknife over queries, NULL under 10.';
