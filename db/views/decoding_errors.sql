create or replace view main.decoding_errors as
with
languages as (
    select
        cell_id,
        case when draw is not null then query_key end as query,
        count(*) filter (where text_language <> language) as n_errors,
        count(*) as n
    from raw.responses
    where text_language is not null and main.answered(finish_reason)
    group by cell_id, query
),
in_other_language as (
    select cell_id, main.share_sums(query, n_errors, n) as sums
    from languages
    group by cell_id
),
rates as (
    select cell_id, main.shown_error(error) as error, percent, ci_low, ci_high, n_errors, n, n_queries
    from main.error_rates
    where main.shown_error(error) is not null
    union all
    select
        cell_id, 'other_language', 100.0 * sums.s / sums.n_queries, main.share_bound(sums, -1),
        main.share_bound(sums, 1), sums.n_errors, sums.n, sums.n_queries
    from in_other_language
),
-- cells that are alike but for how tokens are picked; of those with one temperature the largest
alike as (
    select
        cells.*, settings.top_p, settings.min_p,
        [
            cells.model, cells.quantization, cells.method, cells.language, cells.dpo::varchar, cells.dataset,
            settings.max_tokens::varchar, settings.repetition_penalty::varchar, settings.stop_on_loop::varchar
        ] as names
    from main.cells as cells
    join raw.settings as settings on settings.settings_id = cells.settings_id
    qualify row_number() over (partition by names, cells.temperature order by cells.n_responses desc, cells.cell_id) = 1
),
compared as (
    select * from alike qualify count(*) over (partition by names) > 1
)
select
    compared.model, compared.quantization, compared.method, compared.language, compared.dpo, compared.dataset,
    compared.temperature, rates.error, rates.percent, rates.n_errors, rates.n, rates.n_queries, rates.ci_low,
    rates.ci_high, compared.top_p, compared.min_p, compared.settings_id, compared.cell_id
from compared
join rates on rates.cell_id = compared.cell_id
where main.shown_origin() = 'ours'
order by
    compared.language <> 'en', compared.language, compared.model, compared.dpo, rates.error, compared.temperature,
    main.method_order(compared.method), compared.method, compared.n_responses desc, compared.cell_id;

comment on view main.decoding_errors is
'One row per cell and error, of cells that differ in how tokens are picked and in nothing else: temperature (0: greedy), and percent of the responses that have the error, as in error_rates. infinite_loop is read by the variable icl_loops; other_language: the text is not in the language of the query, where it is long enough to identify. top_p and min_p are NULL for greedy responses. Of several cells with one temperature the one with most responses is shown.';
