select
    runs.started_at::varchar as started, runs.command, runs.version as "icl-local", runs.llama_build as "llama.cpp",
    runs.cpu_features as cpu, runs.n_threads as threads, runs.host, runs.seed, count(answer.response_id) as responses
from raw.runs as runs
left join raw.responses as answer on answer.run_id = runs.run_id
group by all
having count(answer.response_id) > 0
order by started
