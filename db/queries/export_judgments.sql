-- $1: icl_local.store.Selection. One row per aspect of a verdict.
select
    responses.model,
    responses.quantization,
    responses.dpo,
    responses.method,
    responses.language,
    responses.settings_id,
    responses.dataset,
    responses.split,
    responses.query_id,
    responses.response_id,
    responses.cell_id,
    responses.instruction,
    responses.text,
    scores.judge,
    judges.model as judge_model,
    scores.template,
    scores.template_sha256,
    scores.repeat,
    scores.judgment_id,
    scores.status,
    scores.metric,
    scores.score,
    scores.not_applicable,
    scores.reason,
    judgments.raw_reply
from main.scores as scores
inner join main.responses as responses on responses.response_id = scores.response_id
inner join raw.judges as judges on judges.judge_id = scores.judge_id
inner join raw.judgments as judgments
    on judgments.judgment_id = scores.judgment_id and judgments.attempt = scores.attempt
where
    main.selected($1, responses.model, responses.method, responses.language, responses.split, responses.dataset, responses.quantization)
    and ($1['judge'] is null or list_contains($1['judge'], scores.judge))
order by
    responses.model, responses.quantization, responses.dpo, responses.method, responses.language,
    responses.settings_id, responses.dataset, scores.judge, scores.template, scores.repeat, responses.split,
    try_cast(responses.query_id as bigint), responses.query_id, scores.judgment_id, scores.metric
