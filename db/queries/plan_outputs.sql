-- $1, $2: max_tokens, stop_on_loop. Sums of the new tokens of stored answers, each up to $1, to estimate those to come:
-- of every cell, of every method and language, and of every method.
-- Answers made under a lower limit are left out: how long the cut ones would be is unknown.
select
    model, method, language, dpo,
    case
        when grouping(model) = 0 then 'model, method and language'
        when grouping(language) = 0 then 'method and language'
        else 'method'
    end as same,
    count(*) as n,
    count_if(new_tokens >= $1) as n_cut,
    sum(least(new_tokens, $1)) as new_tokens
from main.responses
inner join raw.settings as settings using (settings_id)
where
    new_tokens > 0
    and settings.max_tokens >= $1
    and settings.stop_on_loop is not distinct from $2
group by grouping sets ((model, method, language, dpo), (method, language), (method))
