-- $1: language. Queries that texts of other tools are matched to, Just-Eval first where sets share a text; those that
-- came with such texts tell nothing new.
select dataset, query_id, language, instruction, split, task, topic, source_set, difficulty
from raw.queries
where language = $1 and not starts_with(dataset, 'imported')
order by dataset <> 'just-eval', dataset, try_cast(query_id as bigint), query_id, query_key
