create or replace view main.broken_references as
with
links as (
    select distinct 'responses' as table_name, 'model_id' as column_name, model_id as key
    from raw.responses where model_id not in (select model_id from raw.models)
    union all
    select distinct 'responses', 'query_key', query_key
    from raw.responses where query_key not in (select query_key from raw.queries)
    union all
    select distinct 'responses', 'run_id', run_id
    from raw.responses where run_id not in (select run_id from raw.runs)
    union all
    select distinct 'responses', 'gguf_sha256', gguf_sha256
    from raw.responses
    where gguf_sha256 is not null and gguf_sha256 not in (select gguf_sha256 from raw.gguf_files)
    union all
    select distinct 'responses', 'prompt_id', prompt_id
    from raw.responses
    where prompt_id is not null and prompt_id not in (select prompt_id from raw.prompts)
    union all
    select distinct 'responses', 'settings_id', settings_id
    from raw.responses
    where settings_id is not null and settings_id not in (select settings_id from raw.settings)
    union all
    select distinct 'queries', 'dataset', dataset
    from raw.queries where dataset not in (select dataset from raw.datasets)
    union all
    select distinct 'run_cells', 'run_id', run_id
    from raw.run_cells where run_id not in (select run_id from raw.runs)
    union all
    select distinct 'critical_errors', 'response_id', response_id
    from raw.critical_errors where response_id not in (select response_id from raw.responses)
    union all
    select distinct 'verifications', 'response_id', response_id
    from raw.verifications where response_id not in (select response_id from raw.responses)
    union all
    select distinct 'scorings', 'response_id', response_id
    from raw.scorings where response_id is not null and response_id not in (select response_id from raw.responses)
    union all
    select distinct 'scorings', 'query_key', query_key
    from raw.scorings where query_key not in (select query_key from raw.queries)
    union all
    select distinct 'scorings', 'gguf_sha256', gguf_sha256
    from raw.scorings where gguf_sha256 not in (select gguf_sha256 from raw.gguf_files)
    union all
    select distinct 'scorings', 'run_id', run_id
    from raw.scorings where run_id not in (select run_id from raw.runs)
    union all
    select distinct 'judgments', 'response_id', response_id
    from raw.judgments where response_id not in (select response_id from raw.responses)
    union all
    select distinct 'judgments', 'judge_id', judge_id
    from raw.judgments where judge_id not in (select judge_id from raw.judges)
    union all
    select distinct 'judgments', 'template_sha256', template_sha256
    from raw.judgments where template_sha256 not in (select template_sha256 from raw.judge_templates)
    union all
    select distinct 'sample_items', 'sample_id', sample_id
    from raw.sample_items where sample_id not in (select sample_id from raw.samples)
    union all
    select distinct 'sample_items', 'response_id', response_id
    from raw.sample_items where response_id not in (select response_id from raw.responses)
    union all
    select distinct 'responses', 'response_id (no critical_errors)', response_id
    from raw.responses
    where finish_reason not in ('error', 'chosen') and response_id not in (select response_id from raw.critical_errors)
)
select table_name, column_name, key from links;

comment on view main.broken_references is
'One row per table, column and key that refers to a missing row; none in a sound database. icl db doctor reads it.';
