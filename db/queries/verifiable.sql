-- $1 to $5: models, methods, languages, splits, query sets; NULL takes all. Which responses can be decoded again.
select
    response_id,
    case
        when stored.gguf_sha256 is null then 'made by a server or another program'
        when coalesce(len(stored.tokens), 0) = 0 then 'stored without tokens'
        when main.kernel_settings(made.engine_settings) is null then 'of a run that did not record its engine settings'
    end as excluded
from main.responses
inner join raw.responses as stored using (response_id)
left join raw.run_cells as made on made.run_id = stored.run_id and made.cell_id = stored.cell_id
where ($1::varchar[] is null or responses.model = any($1))
    and ($2::varchar[] is null or responses.method = any($2))
    and ($3::varchar[] is null or responses.language = any($3))
    and ($4::varchar[] is null or responses.split = any($4))
    and ($5::varchar[] is null or responses.dataset = any($5))
order by response_id
