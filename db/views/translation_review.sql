-- Order of review. A review counts unless an undo names it or the source text has changed.
create or replace view main.translation_review as
with candidates as (
    select
        *,
        row_number() over (
            partition by dataset, query_id, language order by severity, created_at desc, translation_id
        ) as preference
    from main.translation_candidates
    where current_source
),

current_review as (
    select reviews.*
    from raw.reviews as reviews
    inner join candidates on candidates.translation_id = reviews.translation_id
    where reviews.action <> 'undo'
        and not exists (
            select 1 from raw.reviews as later where later.action = 'undo' and later.undoes = reviews.review_id
        )
    qualify row_number() over (
        partition by reviews.dataset, reviews.query_id, reviews.language
        order by reviews.created_at desc, reviews.review_id
    ) = 1
),

summed as (
    select
        dataset,
        query_id,
        source_language,
        language,
        source_text,
        count(*) as n_candidates,
        count(distinct text) as n_texts,
        max(translation_id) filter (where preference = 1) as best_translation_id,
        max(engine) filter (where preference = 1) as best_engine,
        max(text) filter (where preference = 1) as best_text,
        max(flags) filter (where preference = 1) as best_flags,
        min(severity) as best_severity,
        avg(severity) as mean_severity
    from candidates
    group by dataset, query_id, source_language, language, source_text
),

stated as (
    select
        summed.*,
        case current_review.action when 'accept' then 'accepted' when 'edit' then 'edited' when 'skip' then 'skipped' else 'open' end
            as status,
        current_review.text as final_text,
        current_review.translation_id as reviewed_translation_id,
        current_review.review_id,
        current_review.reviewer,
        current_review.created_at as reviewed_at
    from summed
    left join current_review
        on current_review.dataset = summed.dataset
        and current_review.query_id = summed.query_id
        and current_review.language = summed.language
)

select
    dataset,
    query_id,
    source_language,
    language,
    row_number() over (
        partition by dataset, language
        order by
            case status when 'open' then 1 when 'skipped' then 2 else 3 end,
            best_severity desc,
            mean_severity desc,
            n_texts desc,
            try_cast(query_id as bigint),
            query_id
    ) as review_rank,
    status,
    n_candidates,
    n_texts,
    best_severity,
    mean_severity,
    best_flags,
    best_engine,
    best_translation_id,
    source_text,
    best_text,
    final_text,
    reviewed_translation_id,
    review_id,
    reviewer,
    reviewed_at
from stated;

comment on view main.translation_review is
'One row per query and target language: the best candidate, the reviewer''s decision, and review_rank, 1 for the first to review.';
