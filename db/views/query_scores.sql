create or replace view main.query_scores as
with
drawn as (
    select response_id from raw.responses where draw is not null
),
looked_up as (
    select
        -- subqueries, not joins: the small side becomes the hash table, and verdicts stream past it
        (select answer from main.answers as answers where answers.response_id = verdict.response_id) as answer,
        verdict.instrument, verdict.reading, columns(main.metrics()), 1 as n_responses, verdict.response_id
    from main.response_scores as verdict
    anti join drawn using (response_id)
    union all
    -- few cells have several responses a query, if any
    select
        (select answer from main.answers as answers where answers.response_id = verdict.response_id) as answer,
        any_value(verdict.instrument), verdict.reading, avg(columns(main.metrics())), count(*), min(verdict.response_id)
    from main.response_scores as verdict
    semi join drawn using (response_id)
    group by 1, verdict.judge_id, verdict.template_sha256, verdict.reading
),
clusters as (
    select query.rowid as query, repeated.cluster_number
    from main.query_clusters as repeated
    join raw.queries as query on query.query_key = repeated.query_key
),
numbered as (
    select
        main.cell_of(answer) as cell, main.query_of(answer) as query, instrument, reading, columns(main.metrics()),
        n_responses, response_id
    from looked_up
    where answer is not null
)
select
    cell, query,
    (select cluster_number from clusters where clusters.query = numbered.query) as cluster,
    instrument, reading, columns(main.metrics()), response_id, n_responses
from numbered;

comment on view main.query_scores is
'One row per cell, query, judge, template and reading: the scores that means are over, each the mean of the n_responses draws of the query that are scored. cell and query are the row numbers of raw.cells and raw.queries, and instrument that of view instruments, for joins; cluster is a number that queries of one text share, NULL where no other query has the text; response_id: one of the draws.';
