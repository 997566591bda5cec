-- `icl status`: processes that made responses, the latest last.
select
    model, quantization as quant, method, language as lang, n_parallel as par, gpu_layers as gpu, exact,
    n_done as made, round(new_tokens_per_second, 1) as tok_s, round(responses_per_hour)::bigint as per_hour,
    round(wall_seconds, 1) as seconds, strftime(ended_at, '%m-%d %H:%M') as ended_utc
from main.throughput
order by ended_at, process_id
