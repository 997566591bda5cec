-- The shifted share of token_shift_by_position, a row for each cell and prompt, a column for each group of positions.
with
shares as (
    select columns(* exclude (n_answers, n_tokens, shifted_low, shifted_high, first_position))
    from main.token_shift_by_position
)
select *
from (
    pivot shares
    on positions in ('1', '2', '3-5', '6-10', '11-20', '21-50', '51-100', '101-200', '201-')
    using any_value(shifted)
)
order by language, under_dpo, main.scoring_order(under_method), under_method, cell_id, under_gguf_sha256
