-- Score means with the judge and its prompt, for Every Eval Ever.
select
    means.cell_id, means.metric, means.mean, means.sd, means.se, means.ci_low, means.ci_high, means.n,
    means.judge, judges.model as judge_model, judges.backend as judge_backend, means.template, templates.text as template_text
from main.score_means as means
inner join raw.judges as judges on judges.judge_id = means.judge_id
left join raw.judge_templates as templates on templates.template_sha256 = means.template_sha256
where means.reading = 'strict'
order by all
