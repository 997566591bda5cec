-- $1: number of tokens, $2: as a table shows them. The most shifted tokens of each cell and prompt other than the
-- answer's own file's.
select
    * replace (
        if($2, main.visible_token(token), token) as token,
        if($2, main.visible_token(usual_top_token), usual_top_token) as usual_top_token
    )
from main.shifted_tokens
where under_method <> 'own'
qualify row_number() over (
    partition by cell_id, under_gguf_sha256, under_method order by n_shifted desc, token_id
) <= $1
order by
    language, under_dpo, main.scoring_order(under_method), under_method, cell_id, under_gguf_sha256, n_shifted desc, token_id
