-- $1 to $9: max_tokens, repetition_penalty, stop_on_loop, plain_queries, temperature, top_p, min_p, draw_seed,
-- decoding. Stored responses made with a study's settings, with the names by which a cell finds its own if its model
-- file is not here.
select response_id, model, method, language, dpo, dataset, query_id, draw, cell_id
from main.responses
inner join raw.settings as settings using (settings_id)
where
    settings.max_tokens is not distinct from $1
    and settings.repetition_penalty is not distinct from $2
    and settings.stop_on_loop is not distinct from $3
    and settings.plain_queries is not distinct from $4
    and settings.temperature is not distinct from $5
    and settings.top_p is not distinct from $6
    and settings.min_p is not distinct from $7
    and responses.draw_seed is not distinct from $8
    and settings.decoding is not distinct from $9
