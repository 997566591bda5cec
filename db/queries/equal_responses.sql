-- $1: weights of a cell, $2: settings_id, $3: whether made exactly, $4: id, prompt's sha256, query_key and stops of
-- requests. What was decoded from the same prompts for the same queries under any method, by a request's id.
with
asked as (
    select unnest($4::struct(id varchar, sha256 varchar, query_key varchar, stops varchar[])[], recursive := true)
)
select
    asked.id, response.raw_text, response.finish_reason, coalesce(response.prompt_tokens, 0) as prompt_tokens,
    coalesce(response.new_tokens, 0) as new_tokens, coalesce(response.tokens_saved, 0) as tokens_saved,
    coalesce(response.tokens, []) as tokens, response.end_token
from asked
join raw.responses as response on response.prompt_sha256 = asked.sha256 and response.query_key = asked.query_key
join raw.cells as cell on cell.cell_id = response.cell_id
join raw.prompts as prompt on prompt.prompt_id = response.prompt_id and prompt.stops = asked.stops
where cell.weights = $1 and response.settings_id = $2 and response.exact is not distinct from $3
    and response.finish_reason <> 'error' and response.draw is null
order by response.response_id
