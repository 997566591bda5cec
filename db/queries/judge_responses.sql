-- $1: icl_local.store.Selection, $2: how many draws of a query, NULL: all, $3: also responses chosen among given texts.
-- Responses that a judge can score.
select
    responses.response_id, responses.split, responses.language, responses.instruction, responses.text,
    expectations.expected, coalesce(expectations.expectation_id, '') as expectation,
    choices.text as by_bytes
from main.responses as responses
left join main.expectations as expectations on expectations.query_key = responses.query_key
left join main.choices as choices on choices.response_id = responses.response_id and choices.picked_by_bytes
where
    main.answered(responses.finish_reason)
    and (responses.finish_reason <> 'chosen' or $3)
    and responses.instruction is not null
    and coalesce(responses.draw <= $2, true)
    and main.selected(
        $1, responses.model, responses.method, responses.language, responses.split, responses.dataset,
        responses.quantization
    )
order by
    responses.split, responses.language, try_cast(responses.query_id as bigint), responses.query_id, responses.response_id
