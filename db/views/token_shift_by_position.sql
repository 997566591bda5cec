create or replace view main.token_shift_by_position as
with
answer as (
    select
        cell_id, under_gguf_sha256, under_method, main.position_group(position) as positions, scoring_id,
        any_value(model) as model,
        any_value(quantization) as quantization,
        any_value(method) as method,
        any_value(language) as language,
        any_value(dpo) as dpo,
        any_value(dataset) as dataset,
        any_value(settings_id) as settings_id,
        any_value(under_model) as under_model,
        any_value(under_quantization) as under_quantization,
        any_value(under_dpo) as under_dpo,
        min(position) as first_position,
        count(*) as n,
        count(*) filter (where main.is_shifted(rank)) as shifted
    from main.token_positions
    where not is_end
    group by cell_id, under_gguf_sha256, under_method, main.position_group(position), scoring_id
),
sums as (
    select
        cell_id, under_gguf_sha256, under_method, positions,
        any_value(model) as model,
        any_value(quantization) as quantization,
        any_value(method) as method,
        any_value(language) as language,
        any_value(dpo) as dpo,
        any_value(dataset) as dataset,
        any_value(settings_id) as settings_id,
        any_value(under_model) as under_model,
        any_value(under_quantization) as under_quantization,
        any_value(under_dpo) as under_dpo,
        min(first_position) as first_position,
        count(*) as n_answers,
        sum(n) as n_tokens,
        sum(shifted) as shifted,
        main.share_se(
            count(*), sum(shifted), sum(n), sum(shifted * shifted), sum(shifted * n), sum(n * n)
        ) as se
    from answer
    group by cell_id, under_gguf_sha256, under_method, positions
)
select
    model, quantization, method, language, dpo, dataset, under_model, under_quantization, under_method, under_dpo,
    positions, n_answers, n_tokens::bigint as n_tokens,
    100.0 * shifted / n_tokens as shifted,
    100.0 * greatest(0, shifted / n_tokens - main.t_quantile(n_answers - 1) * se) as shifted_low,
    100.0 * least(1, shifted / n_tokens + main.t_quantile(n_answers - 1) * se) as shifted_high,
    first_position, settings_id, cell_id, under_gguf_sha256
from sums
order by language, under_dpo, main.scoring_order(under_method), under_method, cell_id, under_gguf_sha256, first_position;

comment on view main.token_shift_by_position is
'One row per cell of answers, weights and prompt that scored them, and group of positions in the answer: the percentage of shifted tokens with its 95 % interval, as in token_shift; the end token is left out. first_position sorts the groups.';
