-- cells that the tables of scores ($1 true) or errors show, with their settings in words and how many others qualify
with
candidates as (
    select *, $1 and cell_id in (select cell_id from main.paper_scores where origin = 'ours') as scored
    from main.cells
    where table_place is not null
)
select
    cells.language, cells.model, cells.method, cells.dpo, cells.dataset, cells.quantization, cells.settings_id,
    cells.n_others,
    coalesce(
        nullif(concat_ws(', ', main.settings_in_words(settings), 'KV ' || settings.kv_type), ''), cells.settings_id
    ) as settings
from candidates as cells
left join raw.settings as settings on settings.settings_id = cells.settings_id
qualify
    row_number() over (
        partition by cells.language, cells.model, cells.method, cells.dpo order by cells.scored desc, cells.table_place
    ) = 1
