create or replace view main.paper_cells as
with
variants as (
    select
        model, method, language, dpo, quantization, settings_id,
        any_value(size_class) as size_class,
        count(*) as n_responses,
        max(created_at) as last_created_at
    from main.responses
    group by model, method, language, dpo, quantization, settings_id
)
select model, method, language, dpo, quantization, settings_id, size_class, n_responses, last_created_at
from variants
qualify row_number() over (
    partition by model, method, language, dpo
    order by n_responses desc, last_created_at desc, quantization, settings_id
) = 1;

comment on view main.paper_cells is
'One row a model, method, language and dpo: the quantization and settings_id that the tables of the paper show for it, the one with most responses, then the latest.';
