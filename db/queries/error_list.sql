-- $1: icl_local.store.Selection; $2: error, NULL takes those that count by the default reading of a loop.
select
    response_id, model, quantization, method, language, dpo, query_id, error, coalesce(kind, '') as kind, start_char,
    copies, span, reaches_end, unit, text, raw_text
from main.critical_errors
where
    main.selected($1, model, method, language, split, dataset, quantization)
    and if($2::varchar is null, error <> 'infinite_loop_literal', error = $2)
    and counted
order by model, quantization, dpo, method, language, error, try_cast(query_id as bigint), query_id, response_id
