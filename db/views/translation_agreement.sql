create or replace view main.translation_agreement as
select
    candidates.dataset,
    candidates.query_id,
    candidates.language,
    candidates.engine,
    candidates.flags,
    candidates.severity,
    candidates.text,
    reviews.final_text,
    candidates.text = reviews.final_text as identical,
    scores.chrf,
    scores.ter,
    reviews.reviewer,
    reviews.reviewed_at,
    candidates.translation_id,
    reviews.review_id
from main.translation_candidates as candidates
inner join main.translation_review as reviews
    on reviews.dataset = candidates.dataset
    and reviews.query_id = candidates.query_id
    and reviews.language = candidates.language
left join raw.translation_scores as scores
    on scores.translation_id = candidates.translation_id
    and scores.review_id = reviews.review_id
where candidates.current_source
    and reviews.final_text is not null;

comment on view main.translation_agreement is
'One row per candidate and the final text of its query: chrF (0 to 100) and TER (edits per 100 words of the final text) by sacrebleu, NULL until icl translate status has scored them.';
