create or replace view main.choices as
with
scored as (
    select
        response_id, query_key, choice, text, logprob, strlen(text) as n_bytes, straddles,
        row_number() over (partition by response_id order by logprob desc, text desc) = 1 as picked,
        row_number() over (partition by response_id order by logprob / strlen(text) desc, text desc) = 1 as picked_by_bytes
    from raw.scorings
    where kind = 'choice'
)
select
    responses.model, responses.quantization, responses.method, responses.language, responses.dpo, responses.dataset,
    responses.query_id, scored.choice, scored.text, scored.logprob, scored.n_bytes, scored.straddles, scored.picked,
    scored.picked_by_bytes, scored.text = expectations.choices[expectations.answer + 1] as is_right,
    scored.response_id, responses.settings_id
from scored
join main.responses as responses on responses.response_id = scored.response_id
left join main.expectations as expectations on expectations.query_key = scored.query_key;

comment on view main.choices is
'One row per choice of a response made with icl run --decode choices: logprob, the natural logarithm of the probability of its text after the prompt, summed over its tokens; n_bytes, the UTF-8 bytes of its text. picked: the response, the largest logprob; picked_by_bytes: the largest logprob by byte, which does not favour short texts. is_right is by the newest answer of the query, NULL without one. straddles: a token holds the end of the prompt and the beginning of the text, and is scored with it.';
