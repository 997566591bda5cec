create or replace view main.choices as
with
scored as (
    select scoring_id, response_id, query_key, choice, logprob, n_bytes, len(tokens) as n_tokens, straddles
    from raw.scorings
    where kind = 'choice'
),
expected as (
    select query_key, expected from main.expectations
)
select
    response.model, response.quantization, response.method, response.language, response.dpo, response.dataset,
    response.query_id, scored.choice,
    expected.expected ->> ('$.choices[' || scored.choice || ']') as text,
    scored.logprob, scored.n_bytes, scored.n_tokens,
    row_number() over (partition by scored.response_id order by scored.logprob desc, scored.choice) = 1 as picked,
    row_number() over (partition by scored.response_id order by scored.logprob / scored.n_bytes desc, scored.choice) = 1
        as picked_by_bytes,
    (expected.expected ->> '$.answer')::integer = scored.choice as right_one,
    scored.straddles, scored.response_id, response.cell_id, scored.scoring_id
from scored
inner join main.responses as response on response.response_id = scored.response_id
left join expected on expected.query_key = scored.query_key;

comment on view main.choices is
'One row per response that picks among choices, and choice (index from 0): the summed log-probability of its tokens after the prompt, and its UTF-8 bytes. picked has the largest sum, picked_by_bytes the largest sum a byte; right_one is the query''s answer, NULL without one. straddles: a token holds the end of the prompt and the beginning of the choice.';
