create or replace view main.reference_probabilities as
with
scored as (
    select model_id, gguf_sha256, method, language, query_key, logprob, n_bytes, len(tokens) as n_tokens, straddles
    from raw.scorings
    where kind = 'reference' and finish_reason = 'scored'
    qualify
        row_number() over (
            partition by model_id, gguf_sha256, method, query_key, choice
            order by created_at desc, scoring_id
        ) = 1
),
weights as (
    select model_id, label, dpo from raw.models
),
file as (
    select gguf_sha256, quantization from raw.gguf_files
),
query as (
    select query_key, dataset from raw.queries
)
select
    coalesce(weights.label, scored.model_id) as model,
    file.quantization,
    scored.method,
    scored.language,
    coalesce(weights.dpo, false) as dpo,
    query.dataset,
    count(*) as n_references,
    count(*) filter (where scored.straddles) as n_straddling,
    sum(scored.n_tokens)::bigint as n_tokens,
    sum(scored.n_bytes)::bigint as n_bytes,
    -sum(scored.logprob) / ln(2) / sum(scored.n_bytes) as bits_per_byte,
    exp(-sum(scored.logprob) / sum(scored.n_tokens)) as perplexity,
    scored.gguf_sha256
from scored
inner join query on query.query_key = scored.query_key
left join weights on weights.model_id = scored.model_id
left join file on file.gguf_sha256 = scored.gguf_sha256
group by all;

comment on view main.reference_probabilities is
'One row per file, method, language and query set whose references were scored (icl score --texts reference). bits_per_byte is over all UTF-8 bytes of the references and compares models with different tokenizers; perplexity is per token and does not. n_straddling references begin in a token that also holds the end of the prompt; that token counts whole. Of a reference that was corrected or scored after another prompt of the method, the last scoring counts.';
