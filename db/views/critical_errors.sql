create or replace view main.critical_errors as
with
response as (
    select
        response_id, model, quantization, method, language, dpo, settings_id, dataset, query_id, task, finish_reason,
        text, raw_text, split
    from main.responses
),
error as (
    select response_id, error, start_char, unit, copies, span, reaches_end, kind, detector_version
    from raw.critical_errors
    where found
)
select
    response.model,
    response.quantization,
    response.method,
    response.language,
    response.dpo,
    response.dataset,
    response.query_id,
    response.task,
    response.finish_reason,
    error.error,
    error.error <> 'unintended_code' or not list_contains(response.task, 'coding') as counted,
    error.start_char,
    error.unit,
    error.copies,
    error.span,
    error.reaches_end,
    error.kind,
    error.detector_version,
    response.text,
    response.raw_text,
    response.split,
    response.response_id,
    response.settings_id
from error
inner join response on response.response_id = error.response_id;

comment on view main.critical_errors is
'One row per response and error found in it, with position and evidence; lengths in characters, start_char in raw_text. counted is false for code that the query asked for, NULL for code if the task is unknown.';
