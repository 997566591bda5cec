-- Candidates with their checks as columns. Candidates of a source text that has changed are not current.
create or replace view main.translation_candidates as
with latest_sources as (
    select dataset, query_id, language, arg_max(source_text, created_at) as source_text
    from raw.translations
    group by dataset, query_id, language
),

checked as (
    select
        candidates.*,
        candidates.source_text = latest_sources.source_text as current_source,
        coalesce((candidates.checks -> '$.flags')::varchar[], []) as flags
    from raw.translations as candidates
    inner join latest_sources
        on latest_sources.dataset = candidates.dataset
        and latest_sources.query_id = candidates.query_id
        and latest_sources.language = candidates.language
)

select
    dataset,
    query_id,
    source_language,
    language,
    engine,
    source_text,
    text,
    finish_reason,
    error,
    current_source,
    flags,
    len(flags) as n_flags,
    10 * list_has_any(flags, ['empty', 'truncated', 'refused', 'untranslated', 'looping'])::integer + len(flags)
        as severity,
    checks ->> '$.text_language' as text_language,
    (checks ->> '$.length_ratio')::double as length_ratio,
    (checks ->> '$.empty')::boolean as is_empty,
    (checks ->> '$.truncated')::boolean as truncated,
    (checks ->> '$.refused')::boolean as refused,
    (checks ->> '$.untranslated')::boolean as untranslated,
    (checks ->> '$.looping')::boolean as looping,
    (checks ->> '$.answered')::boolean as answered,
    (checks ->> '$.length_odd')::boolean as length_odd,
    (checks ->> '$.question_lost')::boolean as question_lost,
    (checks ->> '$.list_appeared')::boolean as list_appeared,
    (checks ->> '$.preamble')::boolean as preamble,
    (checks ->> '$.code_changed')::boolean as code_changed,
    (checks ->> '$.numbers_changed')::boolean as numbers_changed,
    (checks ->> '$.urls_changed')::boolean as urls_changed,
    (checks ->> '$.placeholders_changed')::boolean as placeholders_changed,
    (checks ->> '$.version')::integer as checks_version,
    source_fields,
    created_at,
    translation_id
from checked;

comment on view main.translation_candidates is
'One row per machine candidate, with the results of the automatic checks. severity: the number of flags, plus 10 for an unusable text.';
