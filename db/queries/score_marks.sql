-- cells of Tables 1, 2, 3 whose scores differ from what they are read against (from zero-shot, or from themselves without
-- DPO): paired t test, Holm-corrected over the table; cells, judge, template and reading are the ones shown
with
shown as materialized (
    select cell_id, metric, judge_id, template_sha256, reading from main.paper_scores where origin = 'ours'
)
select unnest(main.marked_cell(test)), metric
from main.paired_differences as test
where
    main.is_marked(test) and p_holm < 0.05
    and (cell_id_a, metric, judge_id, template_sha256, reading) in (from shown)
    and (cell_id_b, metric, judge_id, template_sha256_b, reading) in (from shown)
