-- Samples, the latest of each name, with what people have labelled of them.
with
latest as (
    from main.latest_samples()
),
items as (
    select
        latest.sample_id,
        count(*) as frame,
        count(*) filter (where item.place <= latest.per_cell) as drawn,
        count(distinct answer.cell_id) as cells
    from latest
    join raw.sample_items as item on item.sample_id = latest.sample_id
    join main.responses as answer on answer.response_id = item.response_id
    group by latest.sample_id
),
raters as (
    select sample_id, rater, template_sha256, cell_id, max(n_labelled + n_na) as labels
    from main.sample_progress
    group by all
),
labelled as (
    select sample_id, list(distinct rater order by rater) as raters, sum(labels)::bigint as labels
    from raters
    group by sample_id
)
select
    latest.name as sample, latest.seed, latest.per_cell, latest.strata as by, items.cells, items.frame, items.drawn,
    coalesce(labelled.raters, []) as raters, coalesce(labelled.labels, 0) as labels,
    strftime(latest.created_at, '%Y-%m-%d %H:%M') as drawn_utc, latest.sample_id
from latest
left join items on items.sample_id = latest.sample_id
left join labelled on labelled.sample_id = latest.sample_id
order by latest.name
