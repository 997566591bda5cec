-- $1: SHA-256 of the file that wrote them, $2: method, $3: languages, $4: query set or NULL. Answers, each with its
-- prompt and its query, languages in turn so that the first n are alike. frame: as in responses_to_decode.sql.
select
    response.response_id, response.query_key, query.dataset, query.query_id, response.language, query.split,
    query.instruction, prompt.head, prompt.tail, response.prompt_sha256, settings.plain_queries,
    (
        select any_value({'head': framed.head, 'tail': framed.tail})
        from raw.responses as other inner join raw.prompts as framed on framed.prompt_id = other.prompt_id
        where prompt.tail is null and framed.tail is not null and other.cell_id = response.cell_id
    ) as frame,
    settings.repetition_penalty, response.tokens, response.raw_text,
    coalesce(len(response.tokens), 0) = 0 as retokenised
from raw.responses as response
inner join raw.queries as query on query.query_key = response.query_key
inner join raw.prompts as prompt on prompt.prompt_id = response.prompt_id
left join raw.settings as settings on settings.settings_id = response.settings_id
where response.gguf_sha256 = $1 and response.method = $2 and list_contains($3::varchar[], response.language)
    and query.dataset = coalesce($4, query.dataset) and main.answered(response.finish_reason) and response.finish_reason <> 'chosen'
    and (len(response.tokens) > 0 or response.raw_text <> '')
order by row_number() over (partition by response.language order by query.query_id, response.response_id), response.language
