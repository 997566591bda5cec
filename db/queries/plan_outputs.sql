-- Mean new tokens of stored answers, to estimate those to come.
select model, method, language, dpo, count(*) as n, avg(new_tokens) as new_tokens
from main.responses
where new_tokens > 0
group by all
