create or replace view main.verdicts as
with
template as (
    select template_sha256, rowid as number, name as template, metrics, unnest(main.metric_positions(metrics))
    from raw.judge_templates
),
-- merged databases may both have ended a judgment: the last attempt that ended it counts
last_ended as (
    select judgment_id, max(attempt) as attempt
    from raw.judgments
    where attempt > 1 and not main.transient(status)
    group by judgment_id
)
select
    judges.name as judge, template.template, judgment.repeat, judgment.attempt, judgment.status,
    judgment.scores[columns('^at_(.*)$')] as '\1',
    case
        when judgment.not_applicable[columns('^at_(.*)$')] then 5 else judgment.scores[columns('^at_(.*)$')]
    end as '\1_with_na',
    main.expected_score(
        judgment.scores[columns('^at_(.*)$')], judgment.probabilities[columns('^at_(.*)$')]
    ) as '\1_expected',
    template.metrics, judgment.scores, judgment.not_applicable, judgment.reasons, judgment.probabilities,
    main.instrument(judges.rowid, template.number) as instrument,
    judgment.response_id, judgment.judgment_id, judgment.judge_id, judgment.template_sha256
from raw.judgments as judgment
join raw.judges as judges on judges.judge_id = judgment.judge_id
join template on template.template_sha256 = judgment.template_sha256
left join last_ended on last_ended.judgment_id = judgment.judgment_id
where
    not main.transient(judgment.status)
    and (last_ended.attempt is null or last_ended.attempt = judgment.attempt);

comment on view main.verdicts is
'One row per response, judge, template and repeat: the attempt that ended the judgment. The study''s metrics have columns, NULL where the judge gave no score or was not asked for one; in the columns that end in _with_na N/A is 5, in those that end in _expected it is the mean of the scores by their probabilities (a local judge), NULL where the verdict is N/A or over 1 % is undecided. probabilities: for each metric those of the scores 1 to 5 and of N/A. metrics lists what the template asks for; scores, not_applicable and reasons have one entry a metric, in that order. instrument is a number of judge and template, for joins. A verdict whose template is missing is left out (see broken_references).';
