create or replace view main.cells as
with
safety as (
    select query_key from raw.queries where split = 'safety'
),
answers as (
    select
        cell_id, model_id, gguf_sha256, method, language, settings_id, query_key, created_at, draw,
        main.answered(finish_reason) as answered,
        query_key in (select query_key from safety) as is_safety
    from raw.responses
),
-- the responses of a cell agree in these columns
grouped as (
    select
        cell_id,
        any_value(model_id) as model_id,
        any_value(gguf_sha256) as gguf_sha256,
        any_value(method) as method,
        any_value(language) as language,
        coalesce(any_value(settings_id), 'imported') as settings_id,
        any_value(query_key) as query_key,
        count(*) as n_responses,
        count(*) filter (where answered and not is_safety and draw is null) as n_multi,
        count(*) filter (where answered and is_safety and draw is null) as n_safety,
        max(created_at) as last_created_at
    from answers
    group by cell_id
),
-- of sampled responses, the queries count
drawn as (
    select
        cell_id,
        count(distinct query_key) filter (where not is_safety) as n_multi,
        count(distinct query_key) filter (where is_safety) as n_safety
    from answers
    where draw is not null and answered
    group by cell_id
),
counts as (
    select
        coalesce(model.label, grouped.model_id) as model,
        coalesce(file.quantization, 'none') as quantization,
        grouped.method, grouped.language,
        coalesce(model.dpo, false) as dpo,
        grouped.settings_id,
        coalesce(cell.dataset, query.dataset) as dataset,
        model.size_class, file.file_name,
        coalesce(settings.temperature, 0) as temperature, settings.decoding,
        grouped.n_responses,
        grouped.n_multi + coalesce(drawn.n_multi, 0) as n_multi,
        grouped.n_safety + coalesce(drawn.n_safety, 0) as n_safety,
        grouped.last_created_at, grouped.cell_id
    from grouped
    left join drawn on drawn.cell_id = grouped.cell_id
    left join raw.cells as cell on cell.cell_id = grouped.cell_id
    left join raw.models as model on model.model_id = grouped.model_id
    left join raw.gguf_files as file on file.gguf_sha256 = grouped.gguf_sha256
    left join raw.queries as query on query.query_key = grouped.query_key
    left join raw.settings as settings on settings.settings_id = grouped.settings_id
),
qualified as (
    select
        *,
        not main.has_parameters(method) and decoding is null
        and dataset = coalesce(getvariable('icl_dataset'), dataset)
        and quantization = coalesce(getvariable('icl_quantization'), quantization)
        and starts_with(settings_id, coalesce(getvariable('icl_settings'), '')) as qualifies
    from counts
)
select
    model, quantization, method, language, dpo, dataset, size_class, n_responses, n_multi, n_safety,
    last_created_at,
    case when qualifies then row_number() over (
        partition by model, method, language, dpo
        order by
            qualifies desc, dataset = 'just-eval' desc, temperature, n_responses desc, last_created_at desc, quantization,
            settings_id, cell_id
    ) end as table_place,
    coalesce(table_place = 1, false) as in_paper_tables,
    greatest(count(*) filter (where qualifies) over (partition by model, method, language, dpo) - 1, 0) as n_others,
    file_name, settings_id, cell_id, temperature
from qualified;

comment on view main.cells is
'One row per cell that has responses: weights, method with its prompt text, query set, language and decoding settings (raw.cells). n_multi and n_safety queries (by split) have a text to judge among the n_responses, of which a query has one a draw; the others were prompt_too_long or error. temperature is 0 for greedy decoding. table_place is the order in which the tables of the paper take the cells of one model, method, language and dpo: of the requested query set, type and settings (variables icl_dataset, icl_quantization, icl_settings: the first characters of settings_id), Just-Eval first, then greedy decoding, then the one with most responses, then the latest; NULL for other cells, for methods with parameters, and for responses chosen among given texts. in_paper_tables marks the first, n_others more qualify.';
