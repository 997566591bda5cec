-- cells of Tables 1, 2, 3 whose corrected means (judge $1, reading $2) differ from what they are read against (from zero-shot,
-- or from themselves without DPO): Student's t, Holm-corrected over the table; both cells are the ones shown
with
compared as (
    select
        differs_in, language, model, case when differs_in = 'method' then b else method end as method,
        differs_in = 'dpo' as dpo, metric, p_holm, n, sample, template
    from main.corrected_differences
    where
        judge = $1 and reading = $2 and in_paper_tables
        and (differs_in = 'dpo' or (differs_in = 'method' and a = 'zero-shot' and not dpo))
)
select differs_in, language, model, method, dpo, metric
from compared
-- of several judge templates and samples the one with most labels
qualify
    row_number() over (partition by differs_in, language, model, method, dpo, metric order by n desc, sample, template) = 1
    and p_holm < 0.05
