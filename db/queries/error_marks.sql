-- Cells of Tables 4, 6, 8 whose error rates differ from those of zero-shot, or of the same cell without DPO, by
-- McNemar's exact test, corrected over the table.
select unnest(main.marked_cell(test)), error as metric
from main.error_tests as test
where main.is_marked(test) and p_holm < 0.05
