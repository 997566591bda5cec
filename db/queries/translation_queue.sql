-- $1 language, $2 data set or NULL. Queries to review, in order, with their candidates, the best first.
select
    reviews.dataset, reviews.query_id, reviews.language, reviews.status, reviews.source_text, reviews.final_text,
    reviews.reviewed_translation_id, reviews.reviewer,
    list(
        {
            'translation_id': candidates.translation_id, 'engine': candidates.engine, 'text': candidates.text,
            'flags': candidates.flags
        }
        order by candidates.severity, candidates.created_at desc, candidates.translation_id
    ) as candidates
from main.translation_review as reviews
inner join main.translation_candidates as candidates
    on candidates.dataset = reviews.dataset
    and candidates.query_id = reviews.query_id
    and candidates.language = reviews.language
where reviews.language = $1
    and ($2 is null or reviews.dataset = $2)
    and candidates.current_source
group by all
order by reviews.dataset, any_value(reviews.review_rank)
