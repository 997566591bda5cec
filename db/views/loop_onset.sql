create or replace view main.loop_onset as
with
loops as (
    select
        outcome.error, outcome.cell_id,
        -- the token a loop begins at, by its share of the characters
        case when outcome.failed then
            response.new_tokens * critical.start_char / nullif(length(response.raw_text), 0)
        end as first_token
    from main.response_errors as outcome
    join raw.critical_errors as critical
        on critical.response_id = outcome.response_id and critical.error = outcome.error
    join raw.responses as response on response.response_id = outcome.response_id
    where outcome.error in ('infinite_loop', 'infinite_loop_literal')
),
limits as (
    select unnest([64, 128, 256, 512, 1024, 2048]) as max_tokens
),
counts as (
    select cell_id, error, max_tokens, count(*) filter (where first_token < max_tokens) as n_errors, count(*) as n
    from loops
    cross join limits
    group by cell_id, error, max_tokens
)
select
    cells.model, cells.quantization, cells.method, cells.language, cells.dpo, cells.dataset, counts.error,
    counts.max_tokens,
    100.0 * counts.n_errors / counts.n as percent,
    counts.n_errors, counts.n, settings.max_tokens as limit_of_cell, counts.cell_id
from counts
join main.cells as cells on cells.cell_id = counts.cell_id
left join raw.settings as settings on settings.settings_id = cells.settings_id
where counts.max_tokens <= coalesce(settings.max_tokens, counts.max_tokens)
order by cells.model, cells.method, cells.language, cells.dpo, counts.error, counts.max_tokens;

comment on view main.loop_onset is
'One row per cell, reading of a loop and number of tokens up to the cell''s own limit: percent of the n responses (those of response_errors) whose loop begins before that token, estimated from where it begins in the characters. How much a loop rate depends on max_tokens.';
