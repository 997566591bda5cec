-- $1: icl_local.store.Selection. Responses that a judge can score.
select response_id, split, language, instruction, text
from main.responses
where
    main.answered(finish_reason)
    and instruction is not null
    and main.selected($1, model, method, language, split, dataset, quantization)
order by split, language, try_cast(query_id as bigint), query_id, response_id
