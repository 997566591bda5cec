create or replace view main.versus_paper as
with
printed as (
    select paper_table, language, model, method, dpo, metric, published from main.published_scores
    union all
    select paper_table, language, model, method, dpo, error, published_percent from main.published_errors
),
ours as (
    select
        language, model, method, dpo, metric, value, ci_low, ci_high, n, n_expected, judge, reading, quantization,
        settings_id
    from main.paper_values
    where origin = 'ours'
)
select
    printed.paper_table, printed.language, printed.model, printed.method, printed.dpo, printed.metric,
    ours.value as ours,
    printed.published,
    ours.value - printed.published as difference,
    ours.ci_low, ours.ci_high,
    printed.published between ours.ci_low and ours.ci_high as published_inside,
    ours.n, ours.n_expected, ours.judge, ours.reading, ours.quantization, ours.settings_id
from printed
left join ours
    on ours.language = printed.language and ours.model = printed.model and ours.method = printed.method
    and ours.dpo = printed.dpo and ours.metric = printed.metric
order by
    printed.paper_table, printed.language <> 'en', printed.language, printed.model,
    main.method_order(printed.method), printed.method, printed.dpo,
    main.metric_order(printed.metric),
    printed.metric;

comment on view main.versus_paper is
'One row per cell printed in the paper''s tables: its value, ours (NULL if it was not run or judged), the difference ours - published, our 95 % interval and whether the printed value lies in it. Scores 1 to 5; errors in percent.';
