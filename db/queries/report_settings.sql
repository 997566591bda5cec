select
    left(answer.settings_id, 16) as settings, settings.backend, settings.repetition_penalty as penalty,
    settings.penalty_rule as "penalty as in", settings.max_tokens as "max tokens", settings.kv_type as "KV cache",
    settings.chat_date as "chat date", settings.stop_on_loop as "stop on loop",
    settings.plain_queries as "plain queries", main.sampling_in_words(settings) as sampling, count(*) as responses
from main.responses as answer
left join raw.settings as settings on settings.settings_id = answer.settings_id
group by all
order by settings
