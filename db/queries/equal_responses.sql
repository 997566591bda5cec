-- $1: weights of a cell, $2: settings_id, $3: whether made exactly, $4: prompt_sha256s. What was decoded from these
-- prompts under any method.
select
    response.prompt_sha256, response.query_key, prompt.stops,
    response.raw_text, response.finish_reason, coalesce(response.prompt_tokens, 0) as prompt_tokens,
    coalesce(response.new_tokens, 0) as new_tokens, coalesce(response.tokens_saved, 0) as tokens_saved,
    coalesce(response.tokens, []) as tokens, response.end_token
from raw.responses as response
join raw.cells as cell on cell.cell_id = response.cell_id
join raw.prompts as prompt on prompt.prompt_id = response.prompt_id
where cell.weights = $1 and response.settings_id = $2 and response.exact is not distinct from $3
    and list_contains($4::varchar[], response.prompt_sha256) and response.finish_reason <> 'error'
    and response.draw is null
order by response.response_id
