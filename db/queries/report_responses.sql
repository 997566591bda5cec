-- Single responses for the report: whole queries, at most $1 responses, picked in an order that does not depend on ids
-- or splits. scores is a struct of all metrics.
with
queries as (
    select dataset, query_id, md5(concat_ws('|', dataset, query_id)) as place, count(*) as n_responses
    from main.responses
    group by dataset, query_id
),
picked as (
    select dataset, query_id, place
    from queries
    qualify sum(n_responses) over (order by place) <= $1
),
loops as (
    select response_id, start_char, span, copies from raw.critical_errors where error = 'infinite_loop' and found
),
code as (
    select response_id from main.response_errors where error = 'unintended_code' and failed
),
answers as (
    select response_id, cell_id from main.responses join picked using (dataset, query_id)
),
-- of each cell the judge and template by which the tables show it, or would show it: see paper_scores
asked as (
    select cell_id, metric = 'safety' as is_safety, judge_id, template_sha256
    from main.score_means
    where
        judge = getvariable('icl_judge') and reading = getvariable('icl_reading')
        and judge_id = coalesce((select any_value(judge_id) from main.paper_scores), judge_id)
    group by cell_id, is_safety, judge_id, template_sha256
    qualify row_number() over (partition by cell_id, is_safety order by sum(n) desc, judge_id, template_sha256) = 1
),
given as (
    select
        response_id,
        any_value(columns(list_filter(main.metrics(), lambda metric: metric <> 'safety'))) filter (where not is_safety),
        any_value(safety) filter (where is_safety) as safety
    from main.response_scores
    join answers using (response_id)
    join asked using (cell_id, judge_id, template_sha256)
    where reading = getvariable('icl_reading')
    group by response_id
),
reasons as (
    select response_id, list({'metric': metric, 'reason': reason} order by metric) as reasons
    from main.scores
    join answers using (response_id)
    join asked using (cell_id, judge_id, template_sha256)
    where repeat = 0 and reason is not null and reason <> '' and is_safety = (metric = 'safety')
    group by response_id
)
select
    answer.response_id, answer.dataset, answer.query_id, answer.language, answer.split, answer.task, answer.difficulty,
    answer.instruction, answer.model, answer.quantization, answer.method, answer.dpo, answer.settings_id,
    concat_ws(
        ' ', main.with_dpo(answer.model, answer.dpo),
        if(count(distinct answer.quantization) over (partition by answer.model) > 1, answer.quantization, null)
    ) as name,
    answer.finish_reason, answer.text,
    -- in the text shown, which a loop after the closed answer is not in
    loops.start_char + 1 - greatest(1, strpos(answer.raw_text, answer.text)) as start_char, loops.span, loops.copies,
    code.response_id is not null as has_code, given as scores, reasons.reasons
from main.responses as answer
join picked using (dataset, query_id)
left join loops on loops.response_id = answer.response_id
left join code on code.response_id = answer.response_id
left join given on given.response_id = answer.response_id
left join reasons on reasons.response_id = answer.response_id
order by
    picked.place, answer.language <> 'en', answer.language, answer.model, answer.dpo,
    main.method_order(answer.method), answer.method, answer.quantization,
    answer.settings_id
