-- $1, $2: judges (from, to); $3: sample, NULL for all. Answers that both scored: scores in reading strict, repeats averaged.
with
drawn as (
    select item.response_id
    from main.latest_samples() as sample
    join main.drawn_items() as item on item.sample_id = sample.sample_id
    where sample.name = $3
),
scored as (
    unpivot (
        select
            response_id, judge, judge_id, template, template_sha256, columns(main.metrics())
        from main.response_scores
        where reading = 'strict' and judge in ($1, $2) and ($3 is null or response_id in (from drawn))
    ) on columns(main.metrics()) into name metric value score
)
select
    a.judge_id as from_judge_id, a.template_sha256 as from_template_sha256, a.template as from_template,
    b.judge_id as to_judge_id, b.template_sha256 as to_template_sha256, b.template as to_template,
    answer.language, a.metric,
    list(a.score order by a.response_id) as x,
    list(b.score order by a.response_id) as y,
    list(answer.cell_id order by a.response_id) as systems,
    list(coalesce(clusters.cluster, answer.query_key) order by a.response_id) as queries
from scored as a
join scored as b on b.response_id = a.response_id and b.metric = a.metric
join raw.responses as answer on answer.response_id = a.response_id
left join main.query_clusters as clusters on clusters.query_key = answer.query_key
where a.judge = $1 and b.judge = $2
group by all
order by all
