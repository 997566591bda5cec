create or replace view main.bootstrap_intervals as
select
    cells.model, cells.quantization, cells.method, cells.language, cells.dpo,
    cells.dataset, judge.name as judge, bootstrap.reading, bootstrap.metric, bootstrap.mean,
    -- one score says nothing of its error
    case when bootstrap.n > 1 then bootstrap.se end as se,
    case when bootstrap.n > 1 then bootstrap.ci_low end as ci_low,
    case when bootstrap.n > 1 then bootstrap.ci_high end as ci_high,
    bootstrap.n, bootstrap.samples, bootstrap.seed, bootstrap.created_at,
    cells.settings_id, bootstrap.cell_id, template.name as template, bootstrap.template_sha256
from raw.bootstraps as bootstrap
join main.cells as cells on cells.cell_id = bootstrap.cell_id
left join raw.judges as judge on judge.judge_id = bootstrap.judge_id
left join raw.judge_templates as template on template.template_sha256 = bootstrap.template_sha256
where bootstrap.baseline_cell_id is null
qualify row_number() over (
    partition by
        bootstrap.cell_id, bootstrap.judge_id, bootstrap.template_sha256, bootstrap.reading, bootstrap.metric,
        bootstrap.samples, bootstrap.seed
    order by bootstrap.created_at desc
) = 1
order by cells.model, main.method_order(cells.method), cells.method, cells.language, cells.dpo, judge.name, bootstrap.reading,
    main.metric_order(bootstrap.metric), template.name, bootstrap.template_sha256, cells.cell_id, bootstrap.judge_id;

comment on view main.bootstrap_intervals is
'One row per cell, judge, judge template, reading, metric, number of samples and seed: the latest percentile bootstrap of its mean score by icl bootstrap, over the n scores stored at created_at, queries of one text drawn together. score_means has the present mean.';
