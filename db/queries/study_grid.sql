-- `icl status`: cells of studies.
select study, model, dpo, method, language, n_done, n_wanted, n_judged
from main.study_progress
order by study, cell_number
