-- Cells of Tables 1, 2, 3 whose scores by judge $1 in reading $2 differ from those of zero-shot, or of the same cell
-- without DPO: the interval of the paired difference excludes 0.
with
compared as (
    select
        differs_in, language, model, case when differs_in = 'method' then b else method end as method,
        differs_in = 'dpo' as dpo, metric, ci_low, ci_high, n, template
    from main.paired_differences
    where
        judge = $1 and reading = $2
        and (differs_in = 'dpo' or (differs_in = 'method' and a = 'zero-shot' and not dpo))
)
select differs_in, language, model, method, dpo, metric
from compared
-- the judge template with most scores
qualify
    row_number() over (partition by differs_in, language, model, method, metric order by n desc, template) = 1
    and (ci_low > 0 or ci_high < 0)
