-- $1: icl_local.store.Selection. Which responses can be decoded again.
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
where main.selected($1, responses.model, responses.method, responses.language, responses.split, responses.dataset, responses.quantization)
order by response_id
