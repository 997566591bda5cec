-- $1: languages. Queries to match the texts of other tools with, Just-Eval first if sets share a text; queries that
-- came with such texts are left out.
select dataset, query_id, language, instruction, split, task, topic, source_set, difficulty
from raw.queries
where language = any($1) and not starts_with(dataset, 'imported')
order by dataset <> 'just-eval', dataset, try_cast(query_id as bigint), query_id, query_key
