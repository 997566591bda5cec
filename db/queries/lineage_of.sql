-- Origin of one GGUF file and what was made with it. Parameter: gguf_sha256.
select
    base_source, dataset, preset, method, training_run_id, training_status, checkpoint, checkpoint_sha256,
    parent_gguf_sha256, conversion_id, gate, n_responses, n_judgments
from main.lineage
where gguf_sha256 = ?
