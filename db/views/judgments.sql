create or replace view main.judgments as
select
    responses.model,
    responses.quantization,
    responses.method,
    responses.language,
    responses.dpo,
    responses.query_id,
    responses.split,
    judges.name as judge,
    templates.name as template,
    judgments.repeat,
    judgments.attempt,
    judgments.status,
    judgments.status in ('ok', 'repaired', 'not_applicable', 'incomplete', 'out_of_range') as scored,
    main.transient(judgments.status) as transient,
    judgments.repairs,
    judgments.error,
    judgments.http_status,
    judgments.finish_reason,
    judgments.raw_reply,
    judgments.response_model,
    judgments.system_fingerprint,
    judgments.structured,
    judgments.prompt_tokens,
    judgments.completion_tokens,
    judgments.cost_usd,
    judgments.seconds,
    judgments.created_at,
    judgments.judgment_id,
    judgments.response_id,
    judges.judge_id,
    judgments.template_sha256,
    judgments.batch_id
from raw.judgments as judgments
inner join raw.judges as judges on judges.judge_id = judgments.judge_id
left join raw.judge_templates as templates on templates.template_sha256 = judgments.template_sha256
left join main.responses as responses on responses.response_id = judgments.response_id;

comment on view main.judgments is
'One row per attempt at a judgment, failed ones too. scored: the judge gave at least one score or N/A; transient: tried again.';
