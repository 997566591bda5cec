create or replace view main.exactness as
with
verification as (
    select
        response_id, gguf_sha256, llama_build, cpu_features, main.kernel_settings(settings) as settings, equal,
        llama_build is not distinct from verified_build and cpu_features is not distinct from verified_cpu_features
            as same_machine
    from raw.verifications
),
response as (
    select
        response_id, gguf_sha256, llama_build, cpu_features, settings, same_machine,
        bool_and(equal) as equal
    from verification
    group by all
),
counted as (
    select
        gguf_sha256, llama_build, cpu_features, settings,
        count(*) filter (where same_machine) as n_verified,
        count(*) filter (where same_machine and equal) as n_equal,
        count(*) filter (where not same_machine) as n_elsewhere,
        count(*) filter (where not same_machine and equal) as n_equal_elsewhere
    from response
    group by all
)
select
    coalesce(file.file_name, counted.gguf_sha256) as file_name,
    file.quantization,
    counted.n_verified,
    counted.n_equal,
    case when counted.n_verified > 0 and counted.n_equal = counted.n_verified then 1 - power(0.01, 1.0 / counted.n_verified) end as differing_below,
    case when counted.n_verified > 0 then counted.n_equal = counted.n_verified end as exact,
    counted.n_elsewhere,
    counted.n_equal_elsewhere,
    counted.llama_build,
    counted.cpu_features,
    counted.settings,
    counted.gguf_sha256
from counted
left join raw.gguf_files as file on file.gguf_sha256 = counted.gguf_sha256;

comment on view main.exactness is
'One row per file, llama.cpp build, CPU features and engine settings of responses that were verified: decoded again, one at a time, and compared token by token. n_equal of n_verified were the same on machines like the one that made them; where all are, fewer than differing_below of the responses differ, with 99 % confidence, if the sample was random (icl verify). One difference makes exact false here and in view responses. n_elsewhere were verified with another build or other CPU features, where a difference says nothing about batching.';
