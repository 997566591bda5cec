-- Cells as a run fills them: done of wanted, errors, and the speed of the last process that ended; answers a minute of
-- its last 20 where a process is at work.
with
speed as (
    select
        process.cell_id,
        arg_max(process.new_tokens / process.wall_seconds, run.started_at) as tokens_per_second,
        arg_max(60 * process.n_done / process.wall_seconds, run.started_at) as answers_per_minute
    from raw.run_cells as process
    join raw.runs as run on run.run_id = process.run_id
    where process.wall_seconds > 0
    group by process.cell_id
),
recent as (
    select
        cell_id,
        (count(*) - 1) * 6e7 / nullif(date_diff('microsecond', min(created_at), max(created_at)), 0)
            as answers_per_minute
    from (
        select cell_id, created_at
        from raw.responses
        qualify row_number() over (partition by cell_id order by created_at desc) <= 20
    )
    group by cell_id
)
select
    main.with_dpo(progress.model, progress.dpo) as model, progress.quantization as type, progress.method,
    progress.language, progress.done, progress.wanted,
    progress.n_infinite_loop as loops, progress.n_unintended_code as code, progress.n_failed as failed,
    round(if(progress.status = 'started', recent.answers_per_minute, speed.answers_per_minute), 1) as "answers/min",
    round(speed.tokens_per_second, 1) as "tokens/s",
    coalesce(progress.status, '') as process
from main.progress as progress
left join speed on speed.cell_id = progress.cell_id
left join recent on recent.cell_id = progress.cell_id
order by
    progress.status = 'started' desc, progress.last_created_at desc, progress.model, progress.method, progress.language
