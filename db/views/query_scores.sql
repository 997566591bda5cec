create or replace view main.query_scores as
with
answers as (
    select
        response.response_id,
        {'cell': cell.rowid, 'query_id': query.query_id, 'cluster': clusters.cluster_number} as answer
    from raw.responses as response
    join raw.cells as cell on cell.cell_id = response.cell_id
    left join raw.queries as query on query.query_key = response.query_key
    left join main.query_clusters as clusters on clusters.query_key = response.query_key
    where main.answered(response.finish_reason)
),
looked_up as (
    select
        -- a subquery, not a join: the small side becomes the hash table, and verdicts stream past it
        (select answer from answers where answers.response_id = verdict.response_id) as answer,
        verdict.instrument, verdict.reading, columns(main.metrics()), verdict.response_id
    from main.response_scores as verdict
)
select
    answer.cell as cell, answer.query_id as query_id, answer.cluster as cluster, instrument, reading,
    columns(main.metrics()), response_id
from looked_up
where answer is not null;

comment on view main.query_scores is
'One row per cell, query, judge, template and reading: the scores that means are over. A cell has one response to a query; where it has several, their mean belongs here. cell is the row number of raw.cells and instrument that of view instruments, for joins; cluster is a number that queries of one text share, NULL where no other query has the text.';
