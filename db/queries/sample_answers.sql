-- $1: sample_id. The drawn answers of a sample, as a rater may see them.
select
    answer.response_id, coalesce(answer.split, 'multi') as split, answer.language, answer.query_id, answer.instruction,
    answer.text, sample.seed, sample.strata
from raw.samples as sample
join main.drawn_items() as item on item.sample_id = sample.sample_id
join main.responses as answer on answer.response_id = item.response_id
where sample.sample_id = $1
order by answer.response_id
