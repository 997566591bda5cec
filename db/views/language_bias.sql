create or replace view main.language_bias as
with
fits as (
    select * from main.label_residuals where differs_in = 'language'
),
pairs as (
    select
        a.sample, a.sample_id, a.cell_a, a.cell_b, a.judge, a.template, a.judge_id, a.reading, a.metric, a.reference,
        a.reference_template, a.reference_id,
        (b.f - b.y) - (a.f - a.y) as d
    from fits as a
    join fits as b using (
        sample_id, cell_a, cell_b, query_id, judge_id, judge_text, reference_id, reference_text, reading, metric
    )
    where a.cell = a.cell_a and b.cell = b.cell_b and d is not null
),
sums as (
    select
        * exclude (d),
        count(*) as n,
        avg(d) as bias,
        case when min(d) = max(d) then 0 else stddev_samp(d) / sqrt(count(*)) end as se
    from pairs
    group by all
),
tested as (
    select
        *,
        {
            'sample': sample_id, 'a': cell_a, 'b': cell_b, 'judge': judge_id, 'template': template,
            'reading': reading, 'reference': reference_id, 'reference_template': reference_template
        } as tests,
        main.difference_p(bias, se, n, n - 1) as p
    from sums
    where n > 1
),
ranked as (
    select *, count(*) over (partition by tests) as n_tests, main.holm_place(tests, false, p) as place
    from tested
)
select
    sample, cells.model, cells.quantization, cells.method, cells.dpo,
    cells.language as language_a, others.language as language_b,
    metric, reading, judge, template, reference, bias, se,
    bias - main.difference_half(se, n, n - 1) as ci_low,
    bias + main.difference_half(se, n, n - 1) as ci_high,
    n, p,
    main.holm_p(tests, place, n_tests, p) as p_holm,
    n_tests, reference_template, cells.cell_id as cell_id_a, others.cell_id as cell_id_b, judge_id, reference_id
from ranked
join raw.cells as a on a.rowid = ranked.cell_a
join raw.cells as b on b.rowid = ranked.cell_b
join main.cells as cells on cells.cell_id = a.cell_id
join main.cells as others on others.cell_id = b.cell_id;

comment on view main.language_bias is
'One row per sample, pair of cells in two languages (see cell_pairs), judge, template, reading, metric and reference, over the n queries labelled in both: how much more lenient the judge is in language b than in language a, as the mean of (score - label) in b minus the same in a; Student''s t, p_holm by Holm over the metrics. reference: see corrected_means.';
