-- The rows of token_shift_pairs, by language and prompt.
select *
from main.token_shift_pairs
order by language, under_dpo, main.scoring_order(under_method), under_method, differs_in, b, cell_id_a, cell_id_b
