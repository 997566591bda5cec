create or replace view main.corrected_error_rates as
with
samples as (
    select name as sample, sample_id, strata as error from main.latest_samples()
),
labels as (
    select label.*
    from main.sample_labels as label
    join samples on samples.sample_id = label.sample_id and samples.error = label.metric
    join raw.judges as judges on judges.judge_id = label.judge_id and main.is_referee(judges.backend, judges.name)
),
-- of the texts by which raters were asked in a cell, the most used
standing as (
    select sample_id, cell_id, response_id, avg(label) as label
    from labels
    semi join (
        select sample_id, cell_id, template_sha256
        from labels
        group by sample_id, cell_id, template_sha256
        qualify row_number() over (partition by sample_id, cell_id order by count(*) desc, template_sha256) = 1
    ) using (sample_id, cell_id, template_sha256)
    group by all
),
skipped as (
    select distinct sample_id, response_id
    from samples
    join raw.sample_items using (sample_id)
    join main.verdicts as verdict using (response_id)
    where verdict.status = 'skipped' and main.asked_of_raters(samples.error, verdict.template)
),
strata as (
    select
        samples.sample, samples.sample_id, samples.error, response.cell_id,
        item.stratum = 'flagged' as flagged,
        count(*) as m,
        count(standing.label) as n,
        sum(standing.label) as errors,
        count(skipped.response_id) as n_skipped
    from samples
    join raw.sample_items as item on item.sample_id = samples.sample_id
    join raw.responses as response on response.response_id = item.response_id
    left join standing on standing.sample_id = item.sample_id and standing.response_id = item.response_id
    left join skipped on skipped.sample_id = item.sample_id and skipped.response_id = item.response_id
    group by all
),
sized as (
    select *, (sum(m) over (partition by sample_id, cell_id))::bigint as m_all from strata
),
rates as (
    select
        sample, sample_id, error, cell_id, m_all,
        sum(n)::bigint as n,
        sum(n_skipped)::bigint as n_skipped,
        coalesce(sum(m) filter (where flagged), 0)::bigint as m_flagged,
        any_value(errors / n) filter (where flagged) as confirmed,
        any_value(errors / n) filter (where not flagged) as missed,
        min(case when n = m then 30 else n end) as fewest,
        sum(m / m_all * errors / n) as rate,
        sum(main.rate_part(errors, n, m, m_all, -1)) as below,
        sum(main.rate_part(errors, n, m, m_all, 1)) as above
    from sized
    group by sample, sample_id, error, cell_id, m_all
    having sum(n) > 0
)
select
    rates.sample, rate.model, rate.quantization, rate.method, rate.language, rate.dpo, rate.dataset, rates.error,
    100 * m_flagged / m_all as detected,
    case when fewest >= 10 then 100 * rates.rate end as corrected,
    case when fewest >= 10 then 100 * main.rate_bound(rates.rate, m_all, below, -1) end as ci_low,
    case when fewest >= 10 then 100 * main.rate_bound(rates.rate, m_all, above, 1) end as ci_high,
    100 * confirmed as confirmed,
    100 * missed as missed,
    rates.n,
    m_all as m,
    m_flagged,
    nullif(concat_ws(
        '; ',
        case
            when fewest = 0 then 'a stratum without labels'
            when fewest < 10 then 'fewer than 10 labels in a stratum'
            when fewest < 30 then 'fewer than 30 labels in a stratum'
        end,
        case when n_skipped > 0.05 * (rates.n + n_skipped) then 'over 5 % skipped' end,
        case when m_all < rate.n then 'frame outgrown' end
    ), '') as note,
    rate.in_paper_tables, rate.settings_id, rates.cell_id
from rates
join main.error_rates as rate on rate.cell_id = rates.cell_id and rate.error = rates.error;

comment on view main.corrected_error_rates is
'One row per sample drawn by an error and cell: in percent of the cell''s m answers, those in which the detector found the error when the sample was drawn (detected), those in which people would find it (corrected), and the 95 % interval of that (MOVER on Wilson''s intervals). confirmed: of the labelled answers that the detector flagged, the percent that people confirm; missed: of the labelled others, the percent in which people find the error. NULL where a stratum has under 10 labels and answers without one.';
