-- Answers there are, for a plan that has no file to work out their keys from.
select model, method, language, dpo, dataset, count(distinct query_id) as n
from main.responses
group by model, method, language, dpo, dataset, quantization, settings_id
