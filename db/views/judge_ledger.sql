-- Final status of every judgment, and the cost of all attempts at it.
create or replace view main.judge_ledger as
with attempts as (
    select
        *,
        row_number() over (partition by judgment_id order by attempt desc) = 1 as latest,
        last_value(status) over (
            partition by judgment_id order by attempt
            rows between unbounded preceding and unbounded following
        ) as final_status
    from main.judgments
)

select
    judge,
    template,
    language,
    final_status as status,
    count(*) filter (where latest) as n_judgments,
    count(*) as n_attempts,
    sum(prompt_tokens) as prompt_tokens,
    sum(completion_tokens) as completion_tokens,
    sum(cost_usd) as cost_usd,
    sum(seconds) as seconds,
    min(created_at) as first_at,
    max(created_at) as last_at,
    judge_id,
    template_sha256
from attempts
group by judge_id, judge, template, template_sha256, language, final_status;

comment on view main.judge_ledger is
'One row per judge, template, language and final status: number of judgments, and the attempts, tokens, USD and seconds they took.';
