create or replace view main.bootstrap_differences as
select
    pairs.differs_in, pairs.a, pairs.b, pairs.model, pairs.method, pairs.language, pairs.dpo,
    judge.name as judge, bootstrap.reading, bootstrap.metric, bootstrap.mean as difference,
    -- one score says nothing of its error
    case when bootstrap.n > 1 then bootstrap.se end as se,
    case when bootstrap.n > 1 then bootstrap.ci_low end as ci_low,
    case when bootstrap.n > 1 then bootstrap.ci_high end as ci_high,
    bootstrap.n, bootstrap.samples, bootstrap.seed, bootstrap.created_at,
    pairs.quantization_a, pairs.quantization_b, pairs.unlike, pairs.dataset, pairs.cell_id_a, pairs.cell_id_b,
    template.name as template, bootstrap.template_sha256
from raw.bootstraps as bootstrap
join main.cell_pairs as pairs
    on pairs.cell_id_a = bootstrap.baseline_cell_id and pairs.cell_id_b = bootstrap.cell_id
left join raw.judges as judge on judge.judge_id = bootstrap.judge_id
left join raw.judge_templates as template on template.template_sha256 = bootstrap.template_sha256
qualify row_number() over (
    partition by
        bootstrap.baseline_cell_id, bootstrap.cell_id, bootstrap.judge_id, bootstrap.template_sha256,
        bootstrap.reading, bootstrap.metric, bootstrap.samples, bootstrap.seed
    order by bootstrap.created_at desc
) = 1
order by pairs.differs_in, pairs.a, pairs.b, pairs.model, pairs.method, pairs.language, judge.name, bootstrap.reading,
    main.metric_order(bootstrap.metric), template.name, bootstrap.template_sha256, pairs.cell_id_a, pairs.cell_id_b,
    bootstrap.judge_id;

comment on view main.bootstrap_differences is
'One row per pair of cells (see cell_pairs), judge, judge text of a, reading, metric, number of samples and seed: the latest percentile bootstrap of the mean difference b - a by icl bootstrap --pairs, over the n queries that both had a score for at created_at. paired_differences has the present difference.';
