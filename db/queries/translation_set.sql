-- $1 language, $2 data set or NULL. Every query that has candidates, its final text, and the candidate that it was edited from.
select
    reviews.dataset, reviews.query_id, reviews.source_language, reviews.language, reviews.status, reviews.source_text,
    reviews.final_text, reviews.reviewer, reviews.reviewed_at, reviews.review_id,
    candidates.translation_id, candidates.engine, candidates.text, candidates.severity, candidates.flags,
    candidates.source_fields
from main.translation_review as reviews
inner join main.translation_candidates as candidates
    on candidates.translation_id = coalesce(
        case when reviews.final_text is null then null else reviews.reviewed_translation_id end,
        reviews.best_translation_id
    )
where reviews.language = $1 and ($2 is null or reviews.dataset = $2)
