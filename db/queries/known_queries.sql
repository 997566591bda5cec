-- $1: language. Queries that texts of other tools are matched to; Just-Eval first where sets share a text.
select dataset, query_id, language, instruction, split, task, topic, source_set, difficulty
from raw.queries
where language = $1
order by dataset <> 'just-eval', dataset, try_cast(query_id as bigint), query_id, query_key
