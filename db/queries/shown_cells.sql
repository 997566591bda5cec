-- cells that the tables of scores ($1 true) or errors show, with their settings in words and how many others qualify
select
    cells.language, cells.model, cells.method, cells.dpo, cells.dataset, cells.quantization, cells.settings_id,
    cells.n_others,
    coalesce(nullif(concat_ws(
        ', ',
        'max_tokens ' || settings.max_tokens,
        'penalty ' || settings.repetition_penalty,
        'KV ' || settings.kv_type,
        case when settings.stop_on_loop then 'stop on loop' end,
        case when settings.plain_queries then 'plain queries' end
    ), ''), cells.settings_id) as settings
from main.cells as cells
left join raw.settings as settings on settings.settings_id = cells.settings_id
where cells.table_place is not null
qualify
    row_number() over (
        partition by cells.language, cells.model, cells.method, cells.dpo
        order by
            cells.cell_id in (select cell_id from main.paper_scores where $1 and origin = 'ours') desc, cells.table_place
    ) = 1
