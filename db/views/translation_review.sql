-- What needs a person first. A review counts while no undo names it and the source text is still the one it was made for.
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

standing as (
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
        case standing.action when 'accept' then 'accepted' when 'edit' then 'edited' when 'skip' then 'skipped' else 'open' end
            as status,
        standing.text as final_text,
        standing.translation_id as reviewed_translation_id,
        standing.review_id,
        standing.reviewer,
        standing.created_at as reviewed_at
    from summed
    left join standing
        on standing.dataset = summed.dataset
        and standing.query_id = summed.query_id
        and standing.language = summed.language
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
'One row a query and target language: the best candidate, what a reviewer decided, and review_rank, 1 for what a person should look at first.';
