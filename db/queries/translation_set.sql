-- $1 language, $2 data set or NULL. Every query that has candidates: its final text or else the best candidate, its origin
-- (of the candidate that the text was edited from), and whether a person has reviewed it.
with texts as (
    select *, final_text is not null as reviewed
    from main.translation_review
    where language = $1 and ($2 is null or dataset = $2)
)

select
    texts.dataset, texts.query_id, texts.language, texts.reviewed,
    coalesce(texts.final_text, candidates.text) as instruction,
    {
        'from': texts.source_language,
        'source_sha256': sha256(texts.source_text),
        'engine': candidates.engine,
        'translation_id': candidates.translation_id,
        'decision': if(texts.reviewed, texts.status, 'machine'),
        'reviewer': if(texts.reviewed, texts.reviewer, null),
        'reviewed_at': if(texts.reviewed, strftime(texts.reviewed_at, '%Y-%m-%dT%H:%M:%SZ'), null),
        'review_id': if(texts.reviewed, texts.review_id, null)
    } as translation,
    candidates.severity, candidates.flags, candidates.source_fields
from texts
inner join main.translation_candidates as candidates
    on candidates.translation_id = coalesce(
        if(texts.reviewed, texts.reviewed_translation_id, null), texts.best_translation_id
    )
