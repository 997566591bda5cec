create or replace view main.published_errors as
select paper_table, language, model, model_printed, method, dpo, error, published_percent
from raw.published_errors;

comment on view main.published_errors is
'One row per rate printed in the paper''s Tables 4, 6 and 8 (arXiv 2503.01611), in percent: as printed, with its slips; model is the corrected name.';
