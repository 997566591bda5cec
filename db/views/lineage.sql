create or replace view main.lineage as
with recursive
file as (
    select gguf_sha256, file_name, source, quantization, conversion_id from raw.gguf_files
    union
    select gguf_sha256, null, null, quantization, conversion_id from raw.conversions
    where gguf_sha256 is not null and gguf_sha256 not in (select gguf_sha256 from raw.gguf_files)
),
conversion as (
    select
        conversion_id, gguf_sha256, source_sha256, source, training_run_id, quantization, parent_gguf_sha256, gate,
        created_at
    from raw.conversions
),
-- a file's own conversion row, else the one its header names (the row may be in another database)
made as (
    select file.gguf_sha256, coalesce(own.conversion_id, named.conversion_id) as conversion_id
    from file
    left join conversion as own on own.gguf_sha256 = file.gguf_sha256
    left join conversion as named on named.conversion_id = file.conversion_id
),
-- from a quantized file to the file it was quantized from, up to the one converted from a checkpoint
ancestor as (
    select made.gguf_sha256, made.conversion_id, 0 as depth
    from made
    where made.conversion_id is not null
    union
    select ancestor.gguf_sha256, parent.conversion_id, ancestor.depth + 1
    from ancestor
    join conversion as child on child.conversion_id = ancestor.conversion_id
    join conversion as parent on parent.gguf_sha256 = child.parent_gguf_sha256
    where ancestor.depth < 8
),
origin as (
    select gguf_sha256, arg_max(conversion_id, depth) as conversion_id
    from ancestor
    group by gguf_sha256
),
training as (
    select
        training_run_id, base_source, base_sha256, dataset, dataset_sha256, preset, method, parameters, status,
        checkpoint_sha256
    from raw.training_runs
),
answers as (
    select gguf_sha256, count(*) as n_responses
    from raw.responses
    where gguf_sha256 is not null
    group by gguf_sha256
),
judged as (
    select response.gguf_sha256, count(distinct judgment.judgment_id) as n_judgments
    from raw.judgments as judgment
    join raw.responses as response on response.response_id = judgment.response_id
    where response.gguf_sha256 is not null
    group by response.gguf_sha256
)
select
    file.file_name,
    file.source as file_source,
    file.quantization,
    own.gate,
    first.source as checkpoint,
    training.base_source,
    training.dataset,
    training.preset,
    training.method,
    training.parameters,
    training.status as training_status,
    coalesce(answers.n_responses, 0) as n_responses,
    coalesce(judged.n_judgments, 0) as n_judgments,
    file.gguf_sha256,
    own.conversion_id,
    own.parent_gguf_sha256,
    first.source_sha256 as checkpoint_sha256,
    training.training_run_id,
    training.base_sha256,
    training.dataset_sha256
from file
left join made on made.gguf_sha256 = file.gguf_sha256
left join conversion as own on own.conversion_id = made.conversion_id
left join origin on origin.gguf_sha256 = file.gguf_sha256
left join conversion as first on first.conversion_id = origin.conversion_id
left join training on training.training_run_id = coalesce(first.training_run_id, own.training_run_id)
left join answers on answers.gguf_sha256 = file.gguf_sha256
left join judged on judged.gguf_sha256 = file.gguf_sha256;

comment on view main.lineage is
'One row per GGUF file, from its base to its answers: the conversion and the gate''s result, the checkpoint, the DPO run with base and data (NULL for a file not made here), and the number of responses and judgments made with it.';
