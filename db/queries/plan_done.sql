-- Stored answers, for a plan without the file that their keys depend on.
select model, method, language, dpo, dataset, count(distinct query_id) as n
from main.responses
group by model, method, language, dpo, dataset, cell_id
