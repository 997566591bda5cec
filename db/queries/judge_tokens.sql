-- $1: judge_id. Tokens of a judge's prompts and replies, to estimate those of missing judgments.
select
    templates.template_sha256,
    count(*) as n,
    sum(length(responses.text) + length(responses.instruction) + length(templates.text)) as prompt_characters,
    sum(judgments.prompt_tokens) as prompt_tokens,
    sum(judgments.completion_tokens) as completion_tokens
from raw.judgments as judgments
inner join main.responses as responses on responses.response_id = judgments.response_id
inner join raw.judge_templates as templates on templates.template_sha256 = judgments.template_sha256
where judgments.judge_id = $1 and judgments.prompt_tokens > 0 and judgments.completion_tokens is not null
group by templates.template_sha256
