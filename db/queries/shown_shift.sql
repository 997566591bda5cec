-- $1: reading. The rows of token_shift, by language and prompt.
select *
from main.token_shift
where reading = $1
order by language, under_dpo, main.scoring_order(under_method), under_method, cell_id, under_gguf_sha256
