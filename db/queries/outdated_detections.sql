-- $1: the present detector version. Responses that an older detector, or none, has read.
-- judged: a judge has read the text, or is about to.
with
present as (
    select response_id
    from raw.critical_errors
    where try_cast(string_split(detector_version, '.') as integer[]) >= string_split($1, '.')::integer[]
    group by response_id
    having count(*) >= 3
),
judged as (
    select response_id from raw.judgments where scores is not null
    union
    select response_id from raw.judge_batch_items
)
select
    response.response_id, response.text, response.raw_text, prompt.stops, prompt.tail,
    coalesce(response.finish_reason = 'stop' and settings.backend = 'llama.cpp', false) as stopped_here,
    response.response_id in (select response_id from judged) as judged
from raw.responses as response
left join raw.prompts as prompt on prompt.prompt_id = response.prompt_id
left join raw.settings as settings on settings.settings_id = response.settings_id
where response.finish_reason not in ('error', 'chosen') and response.response_id not in (select response_id from present)
order by response.response_id
