create or replace view main.equated_means as
with
latest as (
    select *
    from raw.equatings
    qualify row_number() over (
        partition by
            from_judge_id, from_template_sha256, to_judge_id, to_template_sha256, language, metric, method
        order by created_at desc, equating_id
    ) = 1
),
joined as (
    select
        means.*, equating.* exclude (language, metric, n, method, map, refused, seed, samples), equating.method as map, target.name as to_judge, template.name as to_template,
        coalesce(
            equating.refused,
            case when means.mean < mean_low - 0.25 or means.mean > mean_high + 0.25 then
                format('mean {:.2f} is outside the anchor systems, {:.2f} to {:.2f}', means.mean, mean_low, mean_high)
            end
        ) as refused
    from main.score_means as means
    join latest as equating
        on equating.from_judge_id = means.judge_id and equating.from_template_sha256 = means.template_sha256
        and equating.language = means.language and equating.metric = means.metric
    join raw.judges as target on target.judge_id = equating.to_judge_id
    join raw.judge_templates as template on template.template_sha256 = equating.to_template_sha256
    where means.reading = 'strict'
),
estimates as (
    select
        *,
        case when refused is null then intercept + slope * mean end as equated,
        case when refused is null and n_systems >= 5 then
            sqrt(power(slope * se, 2) + var_a + 2 * mean * cov_ab + mean * mean * var_b + tau * tau)
        end as error
    from joined
)
select
    model, quantization, method, language, dpo, settings_id, dataset, metric, judge as from_judge, to_judge,
    map, mean as raw_mean, equated, error as se,
    equated - main.t_quantile(n_systems - 1) * error as ci_low,
    equated + main.t_quantile(n_systems - 1) * error as ci_high,
    n, n_systems, tau, refused,
    case when n_systems = 1 then 'one system' when n_systems < 5 then 'fewer than 5 systems' end as note,
    template, to_template, in_paper_tables, created_at, cell_id, judge_id, template_sha256, to_judge_id, equating_id
from estimates;

comment on view main.equated_means is
'One row per cell, metric and map of icl equate from the cell''s judge to another: raw_mean of n scores (reading strict) and the same on the scale of to_judge, with an error that holds the cell''s own, that of the map (queries of the anchors resampled) and tau, the error of a system that was left out; 95 % interval by t with n_systems - 1 degrees of freedom, NULL under 5 systems (note). refused: why there is no value. The latest map of its judges, templates, language, metric and kind counts.';
