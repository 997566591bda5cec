-- Measured speed by file: tokens per second of prefill, and of new tokens over the remaining time.
select
    file.gguf_sha256,
    file.parameters,
    sum(cell.prefilled_tokens) / nullif(sum(cell.prefill_seconds), 0) as prefill_tokens_per_second,
    sum(cell.new_tokens) / nullif(sum(cell.wall_seconds - cell.prefill_seconds), 0) as new_tokens_per_second
from raw.run_cells as cell
inner join raw.gguf_files as file on file.gguf_sha256 = cell.gguf_sha256
where cell.n_done > 0 and cell.wall_seconds > cell.prefill_seconds and cell.new_tokens > 0
group by all
