-- $1: verification ids.
select
    model, method, language, query_id, equal, position, n_tokens, stored_text, decoded_text, llama_build, cpu_features,
    verified_build, verified_cpu_features, response_id, verification_id
from main.verifications
where list_contains($1::varchar[], verification_id)
order by equal, model, method, language, try_cast(query_id as bigint), query_id, response_id
