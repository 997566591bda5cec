create or replace view main.paper_values as
select
    origin, paper_table, canonical, language, model, size_class, method, dpo, metric, value, ci_low, ci_high, n,
    n_expected, judge, reading, quantization, settings_id, dataset, sd, se, df, null::bigint as n_errors,
    judge_id, template_sha256, cell_id
from main.paper_scores
union all
select
    origin, paper_table, canonical, language, model, size_class, method, dpo, error, percent, ci_low, ci_high, n, n,
    null, null, quantization, settings_id, dataset, null, null, null, n_errors, null, null, cell_id
from main.paper_errors;

comment on view main.paper_values is
'One row per origin (ours, published), paper table, cell and metric: paper_scores and paper_errors together, scores from 1 to 5 and errors in percent.';
