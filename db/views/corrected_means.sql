create or replace view main.corrected_means as
with
strata as (
    select
        sample_id, cell, instrument, reading, metric, reference_id, reference_sha256, stratum,
        n, m, n_judged, weight, judge_mean, y_mean, h_mean, v, slope, predicts, sample, judge, template, judge_id,
        template_sha256, reference, reference_template, is_safety,
        main.stratum_part(e, w, count(*), any_value(m_stratum), any_value(m)) as part,
        count(*) filter (where y is null) as stratum_na,
        sum(w * z * z) as stratum_zz,
        min(y) as y_min,
        max(y) as y_max
    from main.label_residuals
    where differs_in = 'none'
    group by all
),
grouped as (
    select
        * exclude (stratum, part, stratum_na, stratum_zz, y_min, y_max),
        main.sampling_sums(part) as parts,
        -- what rounding leaves where all labels are the same is 0
        (min(y_min) < max(y_max))::integer as varies,
        sum(stratum_zz) as zz,
        sum(stratum_na)::bigint as n_na
    from strata
    group by all
),
estimates as (
    select
        *,
        (n - parts.strata - predicts::integer)::bigint as df,
        n >= 10 and df > 0 and weight > 0.999999 and y_mean is not null as estimated,
        varies * n / (n - 1) * zz as label_variance,
        varies * (
            main.sampling_variance(parts, n, df)
            + case when predicts then parts.ss / nullif(df, 0) * h_mean * h_mean / v else 0 end
        ) as frame_variance,
        label_variance / m + frame_variance as variance,
        greatest(1, least(5, y_mean - slope * h_mean)) as estimate
    from grouped
),
rated as (
    select
        item.sample_id, response.cell_id, starts_with(item.stratum, 'safety') as is_safety,
        count(distinct verdict.judge_id) filter (where verdict.status not in ('skipped', 'withdrawn')) as n_raters,
        count(distinct verdict.response_id) filter (where verdict.status = 'skipped') as n_skipped
    from main.verdicts as verdict
    join raw.judges as judges
        on judges.judge_id = verdict.judge_id and main.is_referee(judges.backend, judges.name)
    join raw.sample_items as item on item.response_id = verdict.response_id
    join raw.responses as response on response.response_id = verdict.response_id
    group by all
)
select
    estimates.sample, cells.model, cells.quantization, cells.method, cells.language, cells.dpo, cells.settings_id,
    cells.dataset, metric, reading, judge, template, reference, reference_template, judge_mean,
    y_mean as reference_mean,
    case when estimated then estimate end as corrected,
    case when estimated then sqrt(variance) end as se,
    case when estimated then sqrt(frame_variance) end as se_frame,
    case when estimated then main.score_low(estimate, sqrt(variance), n, main.t_quantile(df)) end as ci_low,
    case when estimated then main.score_high(estimate, sqrt(variance), n, main.t_quantile(df)) end as ci_high,
    n, n_na, n_skipped, m,
    case when estimated then slope end as slope,
    case when estimated then slope * (m - n) / m end as lambda,
    case when predicts then slope * sqrt(v / nullif(zz, 0)) end as r,
    case when estimated then label_variance / n / nullif(variance, 0) end as gain,
    n_raters,
    nullif(concat_ws(
        '; ',
        case when n < 10 then 'fewer than 10 labels' when n < 30 then 'fewer than 30 labels' end,
        case when weight <= 0.999999 then 'a stratum without labels' end,
        case
            when n_judged < 0.95 * m then concat('judged ', n_judged, ' of ', m)
            when n >= 10 and not predicts then 'the judge does not vary'
        end,
        case when slope < 0 then 'the judge ranks the other way' end,
        case when n_skipped > 0.05 * (n + n_skipped) then 'over 5 % skipped' end,
        case when m < case when estimates.is_safety then cells.n_safety else cells.n_multi end then 'frame outgrown' end
    ), '') as note,
    cells.in_paper_tables, cells.cell_id, judge_id, template_sha256, reference_id, reference_sha256
from estimates
join raw.cells as cell on cell.rowid = estimates.cell
join main.cells as cells on cells.cell_id = cell.cell_id
join rated
    on rated.sample_id = estimates.sample_id and rated.cell_id = cell.cell_id
    and rated.is_safety = estimates.is_safety;

comment on view main.corrected_means is
'One row per sample, cell (see cells), metric, reading, judge, template and reference: what the reference would score the cell''s m answers on average, from n labelled ones and the judge''s scores of all (the regression estimator of survey sampling; PPI++). The reference is the mean of the human raters, or the judge that the variable icl_reference names. corrected, its standard error with queries as a sample (se) and for exactly these answers (se_frame), and its 95 % interval on the scale. judge_mean: of all m answers, reference_mean: of the labels. slope and lambda: how far the judge''s scores move the estimate (lambda 0: not at all, 1: in full); r: their correlation with the labels; gain: the labels count for that many times their number. NULL under 10 labels. note: what to know before use. Labels outside the sample are not used.';
