create or replace view main.shifted_tokens as
with
token as (
    select
        cell_id, under_gguf_sha256, under_method, token_id, token, rank, top_token, model, quantization, method, language,
        dpo, dataset, settings_id, under_model, under_quantization, under_dpo
    from main.token_positions
    where not is_end
)
select
    any_value(model) as model,
    any_value(quantization) as quantization,
    any_value(method) as method,
    any_value(language) as language,
    any_value(dpo) as dpo,
    any_value(dataset) as dataset,
    any_value(under_model) as under_model,
    any_value(under_quantization) as under_quantization,
    under_method,
    any_value(under_dpo) as under_dpo,
    any_value(token) as token,
    count(*) filter (where main.is_shifted(rank)) as n_shifted,
    count(*) as n,
    100.0 * count(*) filter (where main.is_shifted(rank)) / count(*) as percent,
    mode(top_token order by top_token) filter (where main.is_shifted(rank)) as usual_top_token,
    any_value(settings_id) as settings_id,
    cell_id, under_gguf_sha256, token_id
from token
group by cell_id, under_gguf_sha256, under_method, token_id
having count(*) filter (where main.is_shifted(rank)) > 0;

comment on view main.shifted_tokens is
'One row per cell of answers, weights and prompt that scored them, and token that was shifted at least once: n_shifted of its n occurrences, and the scoring model''s own first choice most often there. The end token is left out.';
