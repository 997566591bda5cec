-- One row per name of a model, method, language, query set, GGUF type, judge or sample: its kind, and its other names.
with
cell as (
    select distinct model, method, language, dataset, quantization, file_name, gguf_sha256 from main.responses
),
registered as (
    select label as model, registry_name from raw.models
)
select
    'model' as kind,
    model as name,
    list_distinct(
        flatten(list([registry_name, file_name, regexp_replace(file_name, '\.gguf$', ''), gguf_sha256]))
    ) as other_names
from cell
left join registered using (model)
group by model
union all
select distinct unnest(['method', 'language', 'dataset', 'quantization']), unnest([method, language, dataset, quantization]), []
from cell
union all
select 'judge', judges.name, list(distinct judges.model)
from raw.judges as judges
where judges.judge_id in (select judge_id from raw.judgments)
group by judges.name
union all
select distinct 'sample', name, [] from raw.samples
order by all
