-- $1: response ids, $2: rule by which answers are cut now. What it takes to decode them again, and what was stored;
-- text is NULL where another rule cut it. frame: what is around the query in other prompts of a cell whose template
-- changed this query (tail is NULL).
select
    response.response_id, response.cell_id, response.gguf_sha256, response.tokens, response.raw_text,
    case when response.answer_rule = $2 then response.text end as text,
    response.prompt_sha256, query.instruction, prompt.head, prompt.tail, prompt.stops, settings.max_tokens,
    (
        select any_value({'head': framed.head, 'tail': framed.tail})
        from raw.responses as other inner join raw.prompts as framed on framed.prompt_id = other.prompt_id
        where prompt.tail is null and framed.tail is not null and other.cell_id = response.cell_id
    ) as frame,
    settings.repetition_penalty, settings.stop_on_loop, settings.plain_queries,
    coalesce(file.file_name, response.gguf_sha256) as file_name, file.bytes,
    case when response.draw is not null then {
        'temperature': settings.temperature, 'top_p': settings.top_p, 'min_p': settings.min_p,
        'seed': response.draw_seed, 'dataset': query.dataset, 'query_id': query.query_id, 'number': response.draw
    } end as drawn,
    made.engine_settings, runs.llama_build, runs.cpu_features
from raw.responses as response
left join raw.queries as query on query.query_key = response.query_key
left join raw.prompts as prompt on prompt.prompt_id = response.prompt_id
left join raw.settings as settings on settings.settings_id = response.settings_id
left join raw.gguf_files as file on file.gguf_sha256 = response.gguf_sha256
left join raw.run_cells as made on made.run_id = response.run_id and made.cell_id = response.cell_id
left join raw.runs as runs on runs.run_id = response.run_id
where list_contains($1::varchar[], response.response_id)
order by response.gguf_sha256, response.response_id
