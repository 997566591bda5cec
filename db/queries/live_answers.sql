-- $1: number; $2: characters of a text. The latest responses.
with
latest as (
    select response_id from raw.responses order by created_at desc, response_id limit $1
)
select
    main.with_dpo(answer.model, answer.dpo) as model, answer.quantization, answer.method, answer.language,
    answer.query_id, answer.finish_reason, answer.new_tokens, strftime(answer.created_at, '%Y-%m-%dT%H:%M:%SZ') as at,
    left(answer.instruction, $2) as instruction, left(answer.text, $2) as text, answer.response_id
from main.responses as answer
semi join latest on latest.response_id = answer.response_id
order by answer.created_at desc, answer.response_id
