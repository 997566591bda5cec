-- published_audit as the table shows it
select finding, place, language, model, method, if(dpo, 'DPO', '') as dpo, metric, printed, note
from main.published_audit
