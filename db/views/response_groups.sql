create or replace view main.response_groups as
with
answers as (
    select response_id, query_key, task, topic, source_set, difficulty, length(text) as n_characters
    from main.responses
),
groups as (
    select response_id, 'task' as dimension, unnest(case when len(task) = 0 then ['none'] else coalesce(task, ['unknown']) end) as value
    from answers
    union all
    select response_id, 'topic', unnest(case when len(topic) = 0 then ['none'] else coalesce(topic, ['unknown']) end)
    from answers
    union all
    select response_id, 'source_set', coalesce(source_set, 'unknown')
    from answers
    union all
    select response_id, 'difficulty', coalesce(difficulty, 'unknown')
    from answers
    union all
    select
        response_id, 'length',
        case
            when n_characters <= 250 then '0000-0250'
            when n_characters <= 500 then '0251-0500'
            when n_characters <= 1000 then '0501-1000'
            when n_characters <= 2000 then '1001-2000'
            when n_characters <= 4000 then '2001-4000'
            else '4001 or more'
        end
    from answers
    union all
    select answers.response_id, 'tag', unnest(query.tags)
    from answers
    join raw.queries as query on query.query_key = answers.query_key
)
select dimension, value, response_id from groups;

comment on view main.response_groups is
'One row per response and group it belongs to: dimension is task, topic, source_set, difficulty, length (of the answer, in characters) or tag (of the query''s file). A query with several tasks, topics or tags is in several groups.';
