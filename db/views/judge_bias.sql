create or replace view main.judge_bias as
with
differences as (
    select
        *,
        w / sum(w) over part as share,
        f - y as error,
        sum(w * (f - y)) over part / sum(w) over part as mean_error,
        sum(w * f) over part / sum(w) over part as f_mean_labelled,
        sum(w * y) over part / sum(w) over part as y_mean_labelled
    from main.label_residuals
    where differs_in = 'none' and f is not null and y is not null
    window part as (partition by fit)
),
sums as (
    select
        sample, sample_id, cell, judge, template, reading, metric, reference, reference_template, judge_id,
        template_sha256, reference_id, reference_sha256,
        count(*) as n,
        any_value(mean_error) as bias,
        case
            when count(*) < 2 then null
            when min(error) = max(error) then 0.0
            else sqrt(count(*) / (count(*) - 1) * sum(share * share * power(error - mean_error, 2)))
        end as se,
        sum(share * power(f - f_mean_labelled, 2)) as ff,
        sum(share * power(y - y_mean_labelled, 2)) as yy,
        sum(share * (f - f_mean_labelled) * (y - y_mean_labelled)) as fy,
        sqrt(sum(share * error * error)) as rmse,
        sum(share * (error = 0)::integer) as exact_share
    from differences
    group by all
),
tested as (
    select
        *,
        main.difference_p(bias, se, n, n - 1) as p,
        {
            'sample': sample_id, 'judge': judge_id, 'template': template, 'reading': reading,
            'reference': reference_id, 'reference_template': reference_template
        } as tests,
    from sums
),
ranked as (
    select *, count(p) over (partition by tests) as n_tests, main.holm_place(tests, false, p) as place
    from tested
)
select
    ranked.sample, cells.model, cells.quantization, cells.method, cells.language, cells.dpo, cells.settings_id,
    cells.dataset, metric, reading, judge, template, reference, reference_template, bias, se,
    bias - main.difference_half(se, n, n - 1) as ci_low,
    bias + main.difference_half(se, n, n - 1) as ci_high,
    n, p,
    case when p is not null then main.holm_p(tests, place, n_tests, p) end as p_holm,
    fy / nullif(ff, 0) as slope,
    fy / nullif(sqrt(ff * yy), 0) as r,
    rmse, exact_share, n_tests, cells.cell_id, judge_id, template_sha256, reference_id, reference_sha256
from ranked
join raw.cells as cell on cell.rowid = ranked.cell
join main.cells as cells on cells.cell_id = cell.cell_id;

comment on view main.judge_bias is
'One row per sample, cell, metric, reading, judge, template and reference: mean of judge''s score minus label over the n labelled answers that have both (bias), with the 95 % interval and two-sided p of Student''s t; p_holm: corrected by Holm over the n_tests of one sample, judge, template, reading and reference. slope: of the label on the judge''s score, r: their correlation; rmse and exact_share: root mean square and share of 0 of the differences. reference: see corrected_means.';
