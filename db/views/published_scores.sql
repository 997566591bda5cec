create or replace view main.published_scores as
select paper_table, language, model, model_printed, method, dpo, metric, published, paper_version
from raw.published_scores;

comment on view main.published_scores is
'One row per score printed in the paper''s Tables 1, 2 and 3: as printed in paper_version (arXiv), with its slips; model is the corrected name.';
