create or replace view main.versus_paper as
with
printed as (
    select paper_table, language, model, method, dpo, metric, published, paper_version, true as is_score
    from main.published_scores
    union all
    select paper_table, language, model, method, dpo, error, published_percent, paper_version, false
    from main.published_errors
),
rates as materialized (
    select * from main.error_rates where in_paper_tables
),
ours as (
    select
        language, model, method, dpo, metric, value, ci_low, ci_high, n, n_expected, judge, reading, quantization,
        settings_id, dataset, sd, se, df, null::bigint as n_queries
    from main.paper_scores
    where origin = 'ours'
    union all
    select
        language, model, method, dpo, main.shown_error(error), percent, ci_low, ci_high, n, n, null, null,
        quantization, settings_id, dataset, null, null, null, n_queries
    from rates
    where main.shown_error(error) is not null
),
literal as (
    select model, method, language, dpo, percent from rates where error = 'infinite_loop_literal'
),
compared as (
    select
        printed.*,
        ours.value as ours, ours.ci_low, ours.ci_high, ours.n, ours.n_expected, ours.judge, ours.reading,
        ours.quantization, ours.settings_id, ours.dataset, ours.sd, ours.se, ours.df, ours.n_queries,
        case when printed.metric = 'safety' then 200 else 800 end as n_printed,
        case when printed.metric = 'infinite_loop' then literal.percent end as ours_literal
    from printed
    left join ours
        on ours.language = printed.language and ours.model = printed.model
        and ours.method = printed.method and ours.dpo = printed.dpo and ours.metric = printed.metric
    left join literal
        on literal.language = printed.language and literal.model = printed.model
        and literal.method = printed.method and literal.dpo = printed.dpo
),
measured as (
    select
        *,
        case when is_score then sqrt(greatest(0, main.printed_variance(published, sd, n, n_printed))) end as published_se
    from compared
),
bounded as (
    select
        *,
        case
            when is_score then
                ours - published - main.t_quantile(df) * sqrt(power(coalesce(se, 0), 2) + power(published_se, 2))
            else 100 * main.newcombe(ours / 100 * n_queries, n_queries, round(10 * published), 1000, -1)
        end as difference_low,
        case
            when is_score then
                ours - published + main.t_quantile(df) * sqrt(power(coalesce(se, 0), 2) + power(published_se, 2))
            else 100 * main.newcombe(ours / 100 * n_queries, n_queries, round(10 * published), 1000, 1)
        end as difference_high
    from measured
)
select
    paper_table, language, model, method, dpo, metric,
    ours,
    published,
    ours - published as difference,
    ci_low, ci_high,
    published between ci_low and ci_high as published_inside,
    n, n_expected, judge, reading, quantization, settings_id,
    published_se, difference_low, difference_high,
    0 between difference_low and difference_high as compatible,
    case when is_score then judge = 'openai:gpt-4-1106-preview' end as same_judge,
    case when metric = 'infinite_loop' then main.loops_reading() end as loops,
    ours_literal, dataset, paper_version
from bounded
order by
    paper_table, language <> 'en', language, model, main.method_order(method), method, dpo,
    main.metric_order(metric), metric;

comment on view main.versus_paper is
'One row per cell printed in the paper''s tables (paper_version): its value, ours (NULL if it was not run or judged), the difference ours - published with its 95 % interval, in which the printed value is a measured quantity too (published_se: of 800 or 200 scores and of rounding; rates: Newcombe''s interval with 1,000 responses), and whether that interval holds 0 (compatible). same_judge: ours are by the paper''s judge; another judge is another instrument. loops: the reading of infinite_loop; ours_literal is the literal one. published_inside: the printed value lies in our own interval. Scores 1 to 5; errors in percent.';
