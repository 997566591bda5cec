-- $1: icl_local.store.Selection.
select *
from main.responses
where
    main.selected($1, model, method, language, split, dataset, quantization)
order by
    model, quantization, dpo, method, language, settings_id, dataset, split,
    try_cast(query_id as bigint), query_id, response_id
