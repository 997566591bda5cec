-- What metric_means says, with differs: the rate is another than zero-shot's (Holm-corrected p below 0.05).
with
differing as (
    select distinct cell_id_b as cell_id, judge, template, metric, true as differs
    from main.outcome_tests
    where differs_in = 'method' and a = 'zero-shot' and p_holm < 0.05
)
select means.*, means.settings_id[:6] as setup, coalesce(differing.differs, false) as differs
from main.metric_means as means
left join differing using (cell_id, judge, template, metric)
order by
    means.dataset, means.language, means.model, means.dpo, main.method_order(means.method), means.method,
    means.settings_id, means.cell_id, means.judge, means.template, means.template_sha256, means.judge_id, means.metric
