create or replace view main.quantization_gate as
select
    coalesce(file.file_name, conversion.source) as file_name,
    conversion.source,
    conversion.quantization,
    conversion.gate,
    (conversion.gate_report->>'$.next_token.agreement')::double as next_token_agreement,
    (conversion.gate_report->>'$.next_token.floor')::double as agreement_floor,
    (conversion.gate_report->>'$.next_token.kl_divergence')::double as kl_divergence,
    (conversion.gate_report->>'$.next_token.positions')::integer as n_positions,
    (conversion.gate_report->>'$.weights.worst')::double as largest_weight_error,
    conversion.gguf_sha256,
    conversion.created_at
from raw.conversions as conversion
left join raw.gguf_files as file on file.gguf_sha256 = conversion.gguf_sha256
where conversion.gate_report->>'$.next_token.agreement' is not null;

comment on view main.quantization_gate is
'One row per converted or quantised file whose next tokens were compared: what its type costs before it is run. next_token_agreement is the share of n_positions of the sample texts at which the greedy next token is that of the float32 model (or of the file it was quantised from), kl_divergence the mean KL divergence of the two next-token distributions in nats, agreement_floor the share below which the gate refuses the type.';
