-- $1: number of tokens. The most shifted tokens of each cell and prompt other than the answer's own file's.
select *
from main.shifted_tokens
where under_method <> 'own'
qualify row_number() over (
    partition by cell_id, under_gguf_sha256, under_method order by n_shifted desc, token_id
) <= $1
order by cell_id, under_gguf_sha256, under_method, n_shifted desc, token_id
