-- What variance_components says of the chosen judge; of a judge of the study the means, not every aspect. Share is in
-- percent.
select
    dataset, language, model, case when dpo then 'DPO' else '' end as dpo, quantization, settings_id, judge, template,
    method, factor, levels, n_queries as queries, metric, mean, sd_factor, sd_query, sd_rest, se_queries, se_all,
    100 * share as share
from main.variance_components
where judge = coalesce(getvariable('icl_judge'), judge) and not list_contains(main.aspects(), metric)
