create or replace view main.study_progress as
with
requested as (
    select study_id, study, cell_number, model, method, language, dpo, dataset, n_wanted, created_at
    from raw.study_cells
    qualify rank() over (partition by study order by created_at desc, study_id) = 1
),
judged as (
    select distinct response_id from raw.judgments where not main.transient(status)
),
variants as (
    select
        response.model, response.method, response.language, response.dpo, response.dataset,
        response.quantization, response.settings_id, response.cell_id,
        count(distinct response.query_id) as n_done,
        count(distinct response.query_id) filter (where judged.response_id is not null) as n_judged
    from main.responses as response
    left join judged on judged.response_id = response.response_id
    group by all
),
found as (
    select
        requested.study, requested.study_id, requested.cell_number,
        variants.quantization, variants.settings_id, variants.n_done, variants.n_judged
    from requested
    inner join variants
        on variants.model = requested.model
        and variants.method = requested.method
        and variants.language = requested.language
        and variants.dpo = requested.dpo
        and (requested.dataset is null or variants.dataset = requested.dataset)
    qualify row_number() over (
        partition by requested.study_id, requested.cell_number
        order by variants.n_done desc, variants.quantization, variants.settings_id, variants.cell_id
    ) = 1
)
select
    requested.study,
    requested.cell_number,
    requested.model,
    requested.dpo,
    requested.method,
    requested.language,
    coalesce(found.n_done, 0) as n_done,
    requested.n_wanted,
    coalesce(found.n_judged, 0) as n_judged,
    found.quantization,
    found.settings_id
from requested
left join found on found.study_id = requested.study_id and found.cell_number = requested.cell_number;

comment on view main.study_progress is
'One row per cell of every study that was run here: number of queries answered, requested and judged, in the cell with most answers (its quantization and settings_id; NULL: none yet).';
