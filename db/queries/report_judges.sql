select
    judges.name as judge, judges.backend, judges.model, judges.base_url as "base URL",
    judgments.response_model as "answered as", templates.name as template, templates.language,
    left(templates.template_sha256, 16) as "template sha256", judgments.status, count(*) as attempts,
    sum(judgments.cost_usd) as "cost, USD"
from raw.judgments as judgments
left join raw.judges as judges on judges.judge_id = judgments.judge_id
left join raw.judge_templates as templates on templates.template_sha256 = judgments.template_sha256
group by all
order by judge, template, templates.language, judgments.status
