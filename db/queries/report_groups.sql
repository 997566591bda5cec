-- Breakdowns for the report: one row per group and cell with the five-aspect mean and safety, by the judge and template
-- of the tables, and two errors in percent.
with
scores as (
    select
        dimension, value, model, method, language, dpo,
        max(n) as n_scores,
        max(mean) filter (where metric = 'avg') as avg,
        max(mean) filter (where metric = 'safety') as safety
    from main.score_breakdown
    semi join main.paper_scores using (cell_id, metric, judge_id, template_sha256)
    where reading = getvariable('icl_reading')
    group by all
),
errors as (
    select
        dimension, value, model, method, language, dpo,
        max(n) as n_responses,
        max(percent) filter (where error = 'infinite_loop') as infinite_loop,
        max(percent) filter (where error = 'unintended_code') as unintended_code
    from main.error_breakdown
    group by all
)
select
    dimension, value, model, method, language, if(dpo, 'DPO', '') as dpo, coalesce(n_responses, n_scores) as n,
    avg as "five aspects", safety as safe, infinite_loop as "loops, %", unintended_code as "code, %"
from errors
full join scores using (dimension, value, model, method, language, dpo)
order by
    list_position(['task', 'topic', 'source_set', 'difficulty', 'length'], dimension), value, language <> 'en', language,
    model, dpo, main.method_order(method), method
