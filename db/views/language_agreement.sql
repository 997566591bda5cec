-- The judge's language score (4 or 5: the right language) beside the language identified in the same text.
create or replace view main.language_agreement as
with both_say as (
    select
        scores.judge_id,
        scores.judge,
        scores.template_sha256,
        scores.repeat,
        responses.language,
        scores.score,
        scores.score >= 4 as judge_yes,
        responses.text_language = responses.language as identified_yes
    from main.scores as scores
    inner join raw.responses as responses on responses.response_id = scores.response_id
    where scores.metric = 'language' and scores.score is not null
),

counts as (
    select
        judge_id, judge, template_sha256, repeat, language,
        count(*) as n_judged,
        count(identified_yes) as n,
        avg(score) as mean_language_score,
        avg(identified_yes::integer) as identified_share,
        count(*) filter (where judge_yes and identified_yes) as both_yes,
        count(*) filter (where judge_yes and not identified_yes) as judge_only,
        count(*) filter (where not judge_yes and identified_yes) as identifier_only,
        count(*) filter (where not judge_yes and not identified_yes) as both_no
    from both_say
    group by all
),

chance as (
    select
        *,
        ((both_yes + judge_only) * (both_yes + identifier_only) + (both_no + identifier_only) * (both_no + judge_only))
        / nullif(n * n, 0)::double as expected
    from counts
)

select
    judge, language, repeat, n_judged, n, mean_language_score, identified_share,
    both_yes, judge_only, identifier_only, both_no,
    (both_yes + both_no) / nullif(n, 0)::double as agreement,
    ((both_yes + both_no) / nullif(n, 0)::double - expected) / nullif(1 - expected, 0) as kappa,
    judge_id, template_sha256
from chance;

comment on view main.language_agreement is
'One row per judge, template, repeat and language of the query: agreement of the language score with the language identified without a judge. n leaves out texts too short to identify.';
