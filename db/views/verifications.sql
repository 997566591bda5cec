create or replace view main.verifications as
select
    response.model,
    response.quantization,
    response.method,
    response.language,
    response.dataset,
    response.query_id,
    verification.equal,
    verification.position,
    verification.n_tokens,
    verification.stored_text,
    verification.decoded_text,
    verification.llama_build,
    verification.cpu_features,
    main.kernel_settings(verification.settings) as settings,
    verification.verified_build,
    verification.verified_cpu_features,
    verification.created_at,
    verification.response_id,
    verification.verification_id
from raw.verifications as verification
left join main.responses as response on response.response_id = verification.response_id;

comment on view main.verifications is
'One row per verification of a response: whether its tokens and texts, decoded again one at a time, are those stored; else the first token that differs and the text around it, stored and decoded. llama_build, cpu_features and settings are those of the run that made the response.';
