-- Give responses without a cell_id (stored by an earlier version, or by a file that names none) theirs, from its parts.
-- Where a query has several texts under one name, or an import several outputs, the earlier ones stand apart, so that
-- a query has one response in a cell.
create or replace temp table named_cells as
with
stored as (
    select
        response.response_id, response.model_id, response.gguf_sha256, response.method, response.language,
        response.created_at,
        coalesce(
            response.gguf_sha256,
            case
                when response.source is null then 'server:' || response.model_id
                else concat('imported:', response.source, ':', response.model_id)
            end
        ) as weights,
        case
            when prompt.prompt_id is null then concat('imported:', response.method)
            when len(prompt.stops) = 0 then concat('chat:', response.method, ':', response.language)
            else prompt.prompt_id
        end as recipe,
        coalesce(query.dataset, 'unknown') as dataset,
        coalesce(query.query_id, response.query_key) as query_id,
        coalesce(response.settings_id, 'imported') as settings_id
    from raw.responses as response
    left join raw.queries as query on query.query_key = response.query_key
    left join raw.prompts as prompt on prompt.prompt_id = response.prompt_id
    where response.cell_id is null
),
numbered as (
    select
        *,
        row_number() over (
            partition by weights, recipe, dataset, language, settings_id, query_id
            order by created_at desc, response_id
        ) as place
    from stored
),
named as (
    select
        * exclude (dataset, place),
        case when place = 1 then dataset else concat(dataset, ' (earlier text ', place - 1, ')') end as dataset
    from numbered
)
select
    response_id,
    substr(sha256(concat_ws(chr(31), 'cell', weights, recipe, dataset, language, settings_id)), 1, 32) as cell_id,
    weights, recipe, dataset, language, settings_id, method, model_id, gguf_sha256, created_at
from named;

insert into raw.cells by name
select * exclude (response_id)
from named_cells
qualify row_number() over (partition by cell_id order by created_at) = 1
on conflict do nothing;

update raw.responses set cell_id = named_cells.cell_id
from named_cells
where named_cells.response_id = responses.response_id;

update raw.run_cells set cell_id = (
    select min(cell_id)
    from raw.cells as cell
    where cell.gguf_sha256 is not distinct from run_cells.gguf_sha256 and cell.model_id = run_cells.model_id
        and cell.method = run_cells.method and cell.language = run_cells.language
        and cell.settings_id = run_cells.settings_id
)
where cell_id is null;

drop table named_cells;
