-- $1: icl_local.store.Selection. Answered responses of the chosen cells; of several cells of one model, method, language
-- and DPO the one that the paper's tables show, or the most answered one, unless types or query sets are chosen.
with
chosen as (
    select
        response_id, cell_id, query_id, coalesce(split, 'multi') as split, task, model, quantization, method, language,
        dpo, dataset
    from main.responses
    where
        main.answered(finish_reason)
        and instruction is not null
        and main.selected($1, model, method, language, split, dataset, quantization)
        and ($1['judge'] is null or response_id in (
            select response_id from main.verdicts where list_contains($1['judge'], judge)
        ))
),
shown as (
    select cell_id
    from main.cells
    where cell_id in (select cell_id from chosen)
    qualify row_number() over (
        partition by
            model, method, language, dpo,
            if($1['dataset'] is null, null, dataset), if($1['quantization'] is null, null, quantization)
        order by in_paper_tables desc, dataset = 'just-eval' desc, n_responses desc, last_created_at desc, cell_id
    ) = 1
)
select chosen.*
from chosen
semi join shown using (cell_id)
order by model, dpo, main.method_order(method), method, language <> 'en', language, cell_id, split, response_id
