-- $1: scoring_id. The tokens of a scored answer in order.
select token, class, rank, probability, top_token
from main.token_positions
where scoring_id = $1
order by position
