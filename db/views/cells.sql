create or replace view main.cells as
with
answers as (
    select
        cell_id, model, quantization, method, language, dpo, settings_id, dataset, size_class, file_name, created_at,
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
        any_value(dataset) as dataset,
        any_value(size_class) as size_class,
        any_value(file_name) as file_name,
        count(*) as n_responses,
        count(*) filter (where answered and not is_safety) as n_multi,
        count(*) filter (where answered and is_safety) as n_safety,
        max(created_at) as last_created_at,
        cell_id
    from answers
    group by cell_id
),
qualified as (
    select
        *,
        dataset = coalesce(getvariable('icl_dataset'), dataset)
        and quantization = coalesce(getvariable('icl_quantization'), quantization)
        and starts_with(settings_id, coalesce(getvariable('icl_settings'), '')) as qualifies
    from counts
)
select
    model, quantization, method, language, dpo, dataset, size_class, n_responses, n_multi, n_safety,
    last_created_at,
    qualifies and row_number() over (
        partition by model, method, language, dpo
        order by
            qualifies desc, dataset = 'just-eval' desc, n_responses desc, last_created_at desc, quantization,
            settings_id, cell_id
    ) = 1 as in_paper_tables,
    count(*) filter (where qualifies) over (partition by model, method, language, dpo) - 1 as n_others,
    file_name, settings_id, cell_id
from qualified;

comment on view main.cells is
'One row per cell that has responses: weights, method with its prompt text, query set, language and decoding settings (raw.cells). Of n_responses those of n_multi and n_safety (by the query''s split) have a text to judge; the others were prompt_too_long or error. in_paper_tables marks, of the cells of one model, method, language and dpo, the one that the tables of the paper show: of the query set, type and settings asked for (variables icl_dataset, icl_quantization, icl_settings: the first characters of settings_id), Just-Eval first, then the one with most responses, then the latest; n_others more qualify.';
