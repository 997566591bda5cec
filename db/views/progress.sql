create or replace view main.progress as
with
made as (
    select
        model, quantization, method, language, dpo, settings_id,
        count(*) as done,
        count(*) filter (where finish_reason = 'prompt_too_long') as n_prompt_too_long,
        count(*) filter (where finish_reason = 'error') as n_failed,
        count(*) filter (where finish_reason = 'length') as n_at_limit,
        max(created_at) as last_created_at
    from main.responses
    group by all
),
processes as (
    select
        coalesce(model.label, cell.model_id) as model,
        coalesce(file.quantization, 'none') as quantization,
        cell.method,
        cell.language,
        coalesce(model.dpo, false) as dpo,
        coalesce(cell.settings_id, 'imported') as settings_id,
        cell.n_wanted,
        cell.status,
        cell.error,
        run.started_at
    from raw.run_cells as cell
    left join raw.runs as run on run.run_id = cell.run_id
    left join raw.models as model on model.model_id = cell.model_id
    left join raw.gguf_files as file on file.gguf_sha256 = cell.gguf_sha256
),
requested as (
    select
        model, quantization, method, language, dpo, settings_id,
        max(n_wanted) as wanted,
        arg_max(status, started_at) as status,
        arg_max(coalesce(error, ''), started_at) as error
    from processes
    group by all
),
loops as (
    select model, quantization, method, language, dpo, settings_id, n_errors
    from main.error_rates
    where error = 'infinite_loop'
),
code as (
    select model, quantization, method, language, dpo, settings_id, n_errors
    from main.error_rates
    where error = 'unintended_code'
),
counted as (
    select
        model, quantization, method, language, dpo, settings_id,
        coalesce(made.done, 0) as done,
        greatest(requested.wanted, coalesce(made.done, 0)) as wanted,
        coalesce(loops.n_errors, 0) as n_infinite_loop,
        coalesce(code.n_errors, 0) as n_unintended_code,
        coalesce(made.n_prompt_too_long, 0) as n_prompt_too_long,
        coalesce(made.n_failed, 0) as n_failed,
        coalesce(made.n_at_limit, 0) as n_at_limit,
        requested.status,
        nullif(requested.error, '') as error,
        made.last_created_at
    from made
    full join requested using (model, quantization, method, language, dpo, settings_id)
    left join loops using (model, quantization, method, language, dpo, settings_id)
    left join code using (model, quantization, method, language, dpo, settings_id)
)
select
    model, quantization, method, language, dpo, settings_id, done, wanted, wanted - done as missing,
    n_infinite_loop, n_unintended_code, n_prompt_too_long, n_failed, n_at_limit, status, error, last_created_at
from counted;

comment on view main.progress is
'One row per cell (model, quantization, method, language, dpo, settings_id): responses done and requested by the largest run, the errors, and the state of its latest process (started: it is running or was killed). n_at_limit responses ended at the token limit.';
