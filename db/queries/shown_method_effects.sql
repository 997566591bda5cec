-- What method_effects says of the chosen judge and reading; of a judge of the study the means, not every aspect.
select
    dataset, language, model, case when dpo then 'DPO' else '' end as dpo, quantization, settings_id, judge, template,
    base_method as method, parameter, value, metric, n_variants as methods, mean, low, high, difference,
    coalesce(format('{:.2f} to {:.2f}', ci_low, ci_high), '') as "95 %",
    n
from main.method_effects
where reading = coalesce(getvariable('icl_reading'), 'strict')
    and judge = coalesce(getvariable('icl_judge'), judge)
    and not list_contains(main.aspects(), metric)
