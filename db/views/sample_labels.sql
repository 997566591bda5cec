create or replace view main.sample_labels as
select
    sample.name as sample, answers.language, score.metric, judges.model as rater, score.score as label,
    coalesce(clusters.cluster, answers.query_key) as query, answers.cell_id, score.response_id, sample.sample_id,
    score.judge_id, score.template_sha256
from main.latest_samples() as sample
join main.drawn_items() as item on item.sample_id = sample.sample_id
join main.scores as score on score.response_id = item.response_id and score.repeat = 0
join raw.judges as judges on judges.judge_id = score.judge_id and judges.backend = 'human'
join raw.responses as answers on answers.response_id = item.response_id
left join main.query_clusters as clusters on clusters.query_key = answers.query_key
where score.score is not null;

comment on view main.sample_labels is
'One row per sample, drawn response, aspect and human rater that gave a score. query is the same for queries of one text.';
