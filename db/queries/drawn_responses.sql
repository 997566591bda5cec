-- $1: sample_id. The responses that are drawn.
select item.response_id
from raw.samples as sample
join raw.sample_items as item on item.sample_id = sample.sample_id and item.place <= sample.per_cell
where sample.sample_id = $1
