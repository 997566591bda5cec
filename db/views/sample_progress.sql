create or replace view main.sample_progress as
with
drawn as (
    select
        sample.name as sample, answer.model, answer.quantization, answer.method, answer.language, answer.dpo,
        answer.dataset, answer.split, answer.settings_id, answer.cell_id, answer.response_id, sample.sample_id, sample.strata
    from main.latest_samples() as sample
    join main.drawn_items() as item on item.sample_id = sample.sample_id
    join main.responses as answer on answer.response_id = item.response_id
),
labels as (
    select
        judge.model as rater, verdict.template, attempt.status, attempt.seconds,
        unnest(verdict.metrics) as metric,
        unnest(verdict.scores) as score,
        unnest(verdict.not_applicable) as not_applicable,
        verdict.response_id, verdict.judge_id, verdict.template_sha256
    from main.verdicts as verdict
    join raw.judges as judge on judge.judge_id = verdict.judge_id
    join raw.judgments as attempt
        on attempt.judgment_id = verdict.judgment_id and attempt.attempt = verdict.attempt
    where judge.backend = 'human' and verdict.repeat = 0
),
-- what a rater is asked for in a language and split, from what was labelled there
asked as (
    select distinct
        drawn.sample_id, drawn.language, drawn.split, labels.rater, labels.template, labels.metric, labels.judge_id,
        labels.template_sha256
    from drawn
    join labels
        on labels.response_id = drawn.response_id and main.asked_of_raters(drawn.strata, labels.template)
)
select
    drawn.sample, asked.rater, drawn.model, drawn.quantization, drawn.method, drawn.language, drawn.dpo, drawn.dataset,
    asked.metric,
    count(*) as n_wanted,
    count(labels.score) as n_labelled,
    count(*) filter (where labels.not_applicable) as n_na,
    count(*) filter (where labels.status = 'skipped') as n_skipped,
    median(labels.seconds) filter (where labels.score is not null or labels.not_applicable) as median_seconds,
    asked.template, drawn.settings_id, drawn.cell_id, drawn.sample_id, asked.judge_id, asked.template_sha256
from drawn
join asked
    on asked.sample_id = drawn.sample_id and asked.language = drawn.language
    and asked.split is not distinct from drawn.split
left join labels
    on labels.response_id = drawn.response_id and labels.judge_id = asked.judge_id
    and labels.template_sha256 = asked.template_sha256 and labels.metric = asked.metric
group by all;

comment on view main.sample_progress is
'One row per sample (the latest of its name), human rater, template, cell and metric requested from the rater: of n_wanted drawn responses n_labelled have a score, n_na are not applicable, n_skipped were skipped. median_seconds is the time on one response.';
