-- $1: sample_id. The responses that are drawn.
select response_id from main.drawn_items() where sample_id = $1
