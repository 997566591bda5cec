select
    answer.model, if(answer.dpo, 'DPO', '') as dpo, coalesce(answer.variant, '') as variant, answer.quantization as type,
    coalesce(file.file_name, answer.source) as file, file.source as "from", left(file.gguf_sha256, 16) as sha256,
    bool_and(answer.exact) as exact, count(*) as responses
from main.responses as answer
left join raw.gguf_files as file on file.gguf_sha256 = answer.gguf_sha256
group by all
order by answer.model, dpo, variant, type
