create or replace view main.token_positions as
with
scored as (
    select * from raw.scorings where kind = 'answer' and finish_reason = 'scored'
),
own as (
    select response_id, ranks as own_ranks from scored where method = 'own'
),
written as (
    select
        response_id, model, quantization, method, language, dpo, dataset, settings_id, cell_id, query_id,
        finish_reason = 'eog' as has_end
    from main.responses
),
weights as (
    select model_id, label, dpo from raw.models
),
file as (
    select gguf_sha256, quantization, vocab_sha256 from raw.gguf_files
),
token as (
    select
        scored.scoring_id, scored.response_id, scored.model_id, scored.gguf_sha256, scored.method as under_method,
        generate_subscripts(scored.tokens, 1) as position,
        len(scored.tokens) as n_tokens,
        unnest(scored.tokens) as token_id,
        unnest(scored.ranks) as place,
        unnest(own.own_ranks) as own_rank,
        unnest(scored.ranks_decoded) as rank_decoded,
        unnest(scored.logprobs) as logprob,
        unnest(scored.top_ids) as top_id
    from scored
    left join own on own.response_id = scored.response_id
)
select
    written.model, written.quantization, written.method, written.language, written.dpo, written.dataset,
    written.query_id,
    coalesce(weights.label, token.model_id) as under_model,
    file.quantization as under_quantization,
    token.under_method,
    coalesce(weights.dpo, false) as under_dpo,
    token.position,
    piece.piece as token,
    token.place as rank,
    token.own_rank,
    token.rank_decoded,
    exp(token.logprob) as probability,
    top.piece as top_token,
    main.shift_class(token.place) as class,
    written.has_end and token.position = token.n_tokens as is_end,
    written.settings_id, written.cell_id, token.response_id, token.gguf_sha256 as under_gguf_sha256, token.scoring_id,
    token.token_id
from token
inner join written on written.response_id = token.response_id
left join weights on weights.model_id = token.model_id
left join file on file.gguf_sha256 = token.gguf_sha256
left join raw.tokens as piece on piece.vocab_sha256 = file.vocab_sha256 and piece.token_id = token.token_id
left join raw.tokens as top on top.vocab_sha256 = file.vocab_sha256 and top.token_id = token.top_id;

comment on view main.token_positions is
'One row per token of an answer and prompt under which it was scored (icl score). The first columns are the answer''s, those with under_ the weights and the prompt that scored: own is the answer''s own file and prompt, same its own prompt. position counts from 1. rank is the token''s place by raw logit (1: the first choice), own_rank that under its own file, rank_decoded the place after the repetition penalty. class: unshifted (rank 1), marginal (2, 3), shifted. is_end marks the token that ended the answer.';
