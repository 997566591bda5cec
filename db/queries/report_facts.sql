select
    count(*) as responses,
    count(distinct cell_id) as cells,
    list(distinct model order by model) as models,
    list(distinct method order by method) as methods,
    list(distinct language order by language) as languages,
    count(distinct query_key) as queries,
    min(created_at) as first_created_at,
    max(created_at) as last_created_at
from main.responses
