-- cells that the tables show, with their settings in words and how many others qualify
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
where cells.in_paper_tables
