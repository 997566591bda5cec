create or replace view main.corrected_differences as
with
fits as (
    select * from main.label_residuals where differs_in <> 'none'
),
pairs as (
    select
        a.sample, a.sample_id, a.differs_in, a.cell_a, a.cell_b, a.judge, a.judge_id, a.template, a.judge_text,
        a.reference, a.reference_id, a.reference_template, a.reference_text, a.reading, a.metric, a.stratum,
        a.n, a.m, a.m_stratum, a.w, a.weight,
        a.template_sha256, b.template_sha256 as template_sha256_b,
        a.y_mean - a.slope * a.h_mean as mean_a,
        b.y_mean - b.slope * b.h_mean as mean_b,
        b.judge_mean - a.judge_mean as judge_difference,
        a.predicts::integer + b.predicts::integer as n_slopes,
        b.z - a.z as d,
        b.e - a.e as g,
        b.y - a.y as change,
        a.stratum = b.stratum as alike
    from fits as a
    join fits as b using (
        sample_id, cell_a, cell_b, query_id, judge_id, judge_text, reference_id, reference_text, reading, metric
    )
    where a.cell = a.cell_a and b.cell = b.cell_b
),
strata as (
    select
        * exclude (d, g, w, change, alike, m_stratum),
        main.stratum_part(g, w, count(*), any_value(m_stratum), any_value(m)) as part,
        sum(w * d * d) as stratum_dd,
        bool_and(alike) as alike,
        min(change) as change_min,
        max(change) as change_max
    from pairs
    group by all
),
grouped as (
    select
        * exclude (stratum, part, stratum_dd, alike, change_min, change_max),
        main.sampling_sums(part) as parts,
        bool_and(alike) as alike,
        (min(change_min) < max(change_max))::integer as varies,
        sum(stratum_dd) as dd
    from strata
    group by all
),
estimates as (
    select
        *,
        (n - parts.strata - n_slopes)::bigint as df,
        mean_b - mean_a as estimate,
        n >= 10 and df > 0 and weight > 0.999999 and alike and estimate is not null as estimated,
        sqrt(varies * (n / (n - 1) * dd / m + main.sampling_variance(parts, n, df))) as error
    from grouped
),
tested as (
    select
        main.test_family(pairs, 'table_1', 'table_2', 'table_3') as family,
        pairs.*,
        estimates.* exclude (differs_in),
        case when estimated then main.difference_p(estimate, error, n, df) end as p
    from estimates
    join raw.cells as a on a.rowid = estimates.cell_a
    join raw.cells as b on b.rowid = estimates.cell_b
    join main.cell_pairs as pairs
        on pairs.cell_id_a = a.cell_id and pairs.cell_id_b = b.cell_id and pairs.differs_in = estimates.differs_in
),
ranked as (
    select
        *,
        {
            'family': family, 'sample': sample, 'judge_id': judge_id, 'template': template, 'reading': reading,
            'reference': reference_id, 'reference_template': reference_template
        } as tests,
        count(p) filter (where unlike is null) over (partition by tests) as n_tests,
        main.holm_place(tests, unlike is not null, p) as place
    from tested
)
select
    sample, differs_in, a, b, model, method, language, dpo, judge, reading, metric, reference, mean_a, mean_b,
    case when estimated then estimate end as difference,
    case when estimated then error end as se,
    case when estimated then estimate - main.difference_half(error, n, df) end as ci_low,
    case when estimated then estimate + main.difference_half(error, n, df) end as ci_high,
    n, m, judge_difference,
    case when estimated then sign(estimate) = sign(judge_difference) end as same_sign,
    case when estimated then estimate / nullif(error, 0) end as t,
    df, p, family,
    case when unlike is null and p is not null then main.holm_p(tests, place, n_tests, p) end as p_holm,
    n_tests, template, reference_template,
    case when not estimated then 'label the same queries in both cells' end as note,
    quantization_a, quantization_b, unlike, in_paper_tables, dataset, cell_id_a, cell_id_b, template_sha256,
    judge_id, template_sha256_b, reference_id
from ranked;

comment on view main.corrected_differences is
'One row per sample, pair of cells that differ in one thing (see cell_pairs), judge, template, reading, metric and reference: difference b - a of the corrected means (see corrected_means), estimated on the n queries that are labelled in both cells, of m that both answered; its standard error, the 95 % interval and the two-sided p of Student''s t with df degrees of freedom. p_holm: corrected by Holm over the n_tests of its family (see paired_differences), by sample, judge, template, reading and reference. judge_difference: of the judge''s means over all m; same_sign: the two agree in sign. Under 10 common queries the estimates are NULL (note).';
