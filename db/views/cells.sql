create or replace view main.cells as
with
answers as (
    select
        cell_id, model, quantization, method, language, dpo, settings_id, size_class, created_at,
        main.answered(finish_reason) as answered,
        split is not distinct from 'safety' as is_safety
    from main.responses
),
counts as (
    select
        any_value(model) as model,
        any_value(quantization) as quantization,
        any_value(method) as method,
        any_value(language) as language,
        any_value(dpo) as dpo,
        any_value(settings_id) as settings_id,
        any_value(size_class) as size_class,
        count(*) as n_responses,
        count(*) filter (where answered and not is_safety) as n_multi,
        count(*) filter (where answered and is_safety) as n_safety,
        max(created_at) as last_created_at,
        cell_id
    from answers
    group by cell_id
)
select
    model, quantization, method, language, dpo, settings_id, size_class, n_responses, n_multi, n_safety,
    last_created_at,
    row_number() over (
        partition by model, method, language, dpo
        order by n_responses desc, last_created_at desc, quantization, settings_id
    ) = 1 as in_paper_tables,
    cell_id
from counts;

comment on view main.cells is
'One row per model, quantization, method, language, dpo and settings_id that has responses. n_multi and n_safety count the responses with a text to judge, by the query''s split; the others were prompt_too_long or error. Among cells that differ only in quantization or settings_id, in_paper_tables marks the one shown in the paper''s tables: the one with most responses, then the latest. cell_id is DuckDB''s hash of the six: a key within one query, not across versions.';
