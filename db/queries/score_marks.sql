-- cells of Tables 1, 2, 3 whose scores by judge $1 in reading $2 differ from what they are read against (from zero-shot,
-- or from themselves without DPO): paired t test, Holm-corrected over the table; both cells are the ones shown
with
compared as (
    select
        differs_in, language, model, case when differs_in = 'method' then b else method end as method,
        differs_in = 'dpo' as dpo, metric, p_holm, n, template
    from main.paired_differences
    where
        judge = $1 and reading = $2 and in_paper_tables
        and (differs_in = 'dpo' or (differs_in = 'method' and a = 'zero-shot' and not dpo))
)
select differs_in, language, model, method, dpo, metric
from compared
-- of several judge templates the one with most scores
qualify
    row_number() over (partition by differs_in, language, model, method, dpo, metric order by n desc, template) = 1
    and p_holm < 0.05
