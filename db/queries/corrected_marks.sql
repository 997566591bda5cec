-- cells of Tables 1, 2, 3 whose corrected means differ from what they are read against (from zero-shot, or from themselves
-- without DPO): Student's t, Holm-corrected over the table; cells, judge, template and reading are the ones shown
with
shown as materialized (
    select cell_id, metric, judge_id, template_sha256, reading from main.paper_scores where origin = 'ours'
),
compared as (
    select unnest(main.marked_cell(test)), metric, p_holm, n, sample
    from main.corrected_differences as test
    where
        main.is_marked(test)
        and (cell_id_a, metric, judge_id, template_sha256, reading) in (from shown)
        and (cell_id_b, metric, judge_id, template_sha256_b, reading) in (from shown)
)
select differs_in, language, model, method, dpo, metric
from compared
-- of several samples the one with most labels
qualify
    row_number() over (partition by differs_in, language, model, method, dpo, metric order by n desc, sample) = 1
    and p_holm < 0.05
