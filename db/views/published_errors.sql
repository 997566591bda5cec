create or replace view main.published_errors as
select paper_table, language, model, model_printed, method, dpo, error, published_percent, paper_version
from raw.published_errors;

comment on view main.published_errors is
'One row per rate printed in the paper''s Tables 4, 6 and 8 in percent, as printed in paper_version (arXiv), with its slips; model is the corrected name.';
