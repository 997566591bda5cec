create or replace view main.token_shift as
with
token as (
    select
        cell_id, model, quantization, method, language, dpo, dataset, settings_id, under_model, under_quantization,
        under_method, under_dpo, under_gguf_sha256, response_id, scoring_id, rank, own_rank, rank_decoded, probability,
        is_end
    from main.token_positions
),
reading as (
    select unnest(['all', 'own_top', 'with_end']) as reading
),
answer as (
    select
        token.cell_id, token.under_gguf_sha256, token.under_method, reading.reading, token.scoring_id,
        any_value(token.model) as model,
        any_value(token.quantization) as quantization,
        any_value(token.method) as method,
        any_value(token.language) as language,
        any_value(token.dpo) as dpo,
        any_value(token.dataset) as dataset,
        any_value(token.settings_id) as settings_id,
        any_value(token.under_model) as under_model,
        any_value(token.under_quantization) as under_quantization,
        any_value(token.under_dpo) as under_dpo,
        count(*) as n,
        count(*) filter (where token.rank = 1) as unshifted,
        count(*) filter (where token.rank between 2 and 3) as marginal,
        count(*) filter (where main.is_shifted(token.rank)) as shifted,
        count(*) filter (where token.rank <= 5) as top5,
        count(*) filter (where token.rank_decoded = 1) as decoded_same,
        sum(token.probability) as probability,
        -sum(log2(token.probability)) as bits
    from token
    cross join reading
    where case reading.reading
        when 'all' then not token.is_end
        when 'own_top' then not token.is_end and token.own_rank = 1
        else true
    end
    group by token.cell_id, token.under_gguf_sha256, token.under_method, reading.reading, token.scoring_id
),
sums as (
    select
        answer.cell_id, answer.under_gguf_sha256, answer.under_method, answer.reading,
        any_value(answer.model) as model,
        any_value(answer.quantization) as quantization,
        any_value(answer.method) as method,
        any_value(answer.language) as language,
        any_value(answer.dpo) as dpo,
        any_value(answer.dataset) as dataset,
        any_value(answer.settings_id) as settings_id,
        any_value(answer.under_model) as under_model,
        any_value(answer.under_quantization) as under_quantization,
        any_value(answer.under_dpo) as under_dpo,
        count(*) as n_answers,
        sum(answer.n) as n_tokens,
        sum(answer.unshifted) as unshifted,
        sum(answer.marginal) as marginal,
        sum(answer.shifted) as shifted,
        sum(answer.top5) as top5,
        sum(answer.decoded_same) as decoded_same,
        sum(answer.probability) as probability,
        sum(answer.bits) as bits,
        sum(scoring.n_bytes) as n_bytes,
        main.share_se(
            count(*), sum(answer.shifted), sum(answer.n), sum(answer.shifted * answer.shifted),
            sum(answer.shifted * answer.n), sum(answer.n * answer.n)
        ) as se
    from answer
    inner join raw.scorings as scoring on scoring.scoring_id = answer.scoring_id
    group by answer.cell_id, answer.under_gguf_sha256, answer.under_method, answer.reading
)
select
    model, quantization, method, language, dpo, dataset, under_model, under_quantization, under_method, under_dpo,
    reading, n_answers, n_tokens::bigint as n_tokens,
    100.0 * unshifted / n_tokens as unshifted,
    100.0 * marginal / n_tokens as marginal,
    100.0 * shifted / n_tokens as shifted,
    100.0 * top5 / n_tokens as top5,
    100.0 * greatest(0, shifted / n_tokens - main.t_quantile(n_answers - 1) * se) as shifted_low,
    100.0 * least(1, shifted / n_tokens + main.t_quantile(n_answers - 1) * se) as shifted_high,
    probability / n_tokens as probability,
    100.0 * decoded_same / n_tokens as decoded_same,
    case when reading <> 'own_top' then bits / nullif(n_bytes, 0) end as bits_per_byte,
    settings_id, cell_id, under_gguf_sha256
from sums;

comment on view main.token_shift is
'One row per cell of answers, weights and prompt that scored them, and reading: all tokens but the end, own_top (of these the ones that were the first choice of the model that wrote them), with_end. unshifted, marginal, shifted, top5 and decoded_same are percent of n_tokens; decoded_same: the token that these weights would have written after this prompt and the tokens before, with the answer''s repetition penalty. shifted_low and shifted_high: 95 % interval, answers are clusters (a ratio''s error, Student''s t); NULL for one answer. probability: mean. bits_per_byte: of the answer''s UTF-8 bytes; NULL for own_top.';
