-- $1 language, $2 data set or NULL. Queries to review, in order.
select
    reviews.dataset, reviews.query_id, reviews.language, reviews.status, reviews.source_text, reviews.final_text,
    reviews.review_id, reviews.reviewed_translation_id, reviews.reviewer, reviews.reviewed_at,
    candidates.translation_id, candidates.engine, candidates.text, candidates.flags
from main.translation_review as reviews
inner join main.translation_candidates as candidates
    on candidates.dataset = reviews.dataset
    and candidates.query_id = reviews.query_id
    and candidates.language = reviews.language
where reviews.language = $1
    and ($2 is null or reviews.dataset = $2)
    and candidates.current_source
order by reviews.dataset, reviews.review_rank, candidates.severity, candidates.created_at desc, candidates.translation_id
