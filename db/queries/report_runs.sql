with
answers as (
    select run_id, count(*) as responses
    from raw.responses
    group by run_id
)
select
    strftime(runs.started_at, '%Y-%m-%d %H:%M:%S') as "started (UTC)", runs.command, runs.version as "icl-local",
    runs.llama_build as "llama.cpp", runs.cpu_features as cpu, runs.n_threads as threads, runs.host, runs.seed,
    answers.responses
from raw.runs as runs
join answers on answers.run_id = runs.run_id
order by runs.started_at
