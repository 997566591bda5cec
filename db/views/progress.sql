create or replace view main.progress as
with
made as (
    select
        cell_id,
        count(*) as done,
        count(*) filter (where finish_reason = 'prompt_too_long') as n_prompt_too_long,
        count(*) filter (where finish_reason = 'error') as n_failed,
        count(*) filter (where finish_reason = 'length') as n_at_limit,
        max(created_at) as last_created_at
    from raw.responses
    group by cell_id
),
processes as (
    select
        process.cell_id,
        max(process.n_wanted) as wanted,
        arg_max(process.status, run.started_at) as status,
        arg_max(coalesce(process.error, ''), run.started_at) as error
    from raw.run_cells as process
    left join raw.runs as run on run.run_id = process.run_id
    where process.cell_id is not null
    group by process.cell_id
),
errors as (
    select
        cell_id,
        max(n_errors) filter (where error = 'infinite_loop') as n_infinite_loop,
        max(n_errors) filter (where error = 'unintended_code') as n_unintended_code
    from main.error_rates
    group by cell_id
),
counted as (
    select
        coalesce(model.label, cell.model_id) as model,
        coalesce(file.quantization, 'none') as quantization,
        cell.method,
        cell.language,
        coalesce(model.dpo, false) as dpo,
        cell.settings_id,
        cell.dataset,
        coalesce(made.done, 0) as done,
        greatest(processes.wanted, coalesce(made.done, 0)) as wanted,
        coalesce(errors.n_infinite_loop, 0) as n_infinite_loop,
        coalesce(errors.n_unintended_code, 0) as n_unintended_code,
        coalesce(made.n_prompt_too_long, 0) as n_prompt_too_long,
        coalesce(made.n_failed, 0) as n_failed,
        coalesce(made.n_at_limit, 0) as n_at_limit,
        processes.status,
        nullif(processes.error, '') as error,
        made.last_created_at,
        cell.cell_id
    from raw.cells as cell
    left join raw.models as model on model.model_id = cell.model_id
    left join raw.gguf_files as file on file.gguf_sha256 = cell.gguf_sha256
    left join made on made.cell_id = cell.cell_id
    left join processes on processes.cell_id = cell.cell_id
    left join errors on errors.cell_id = cell.cell_id
    where made.cell_id is not null or processes.cell_id is not null
)
select
    model, quantization, method, language, dpo, done, wanted, wanted - done as missing,
    n_infinite_loop, n_unintended_code, n_prompt_too_long, n_failed, n_at_limit, status, error, last_created_at,
    dataset, settings_id, cell_id
from counted;

comment on view main.progress is
'One row per cell (see cells), also before its first response: responses done and wanted by the largest run so far, what went wrong, and how its latest process ended (started: it is running or was killed). n_at_limit responses ended at the token limit.';
