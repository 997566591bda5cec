-- Cells of Tables 4, 6, 8 whose error rates differ from those of zero-shot, or of the same cell without DPO, by
-- McNemar's exact test, corrected over the table.
select
    differs_in, language, model, case when differs_in = 'method' then b else method end as method,
    differs_in = 'dpo' as dpo, error as metric
from main.error_tests
where
    (differs_in = 'dpo' or (differs_in = 'method' and a = 'zero-shot' and not dpo))
    and in_paper_tables and p_holm < 0.05
