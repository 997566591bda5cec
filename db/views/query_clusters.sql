create or replace view main.query_clusters as
select query_key, min(query_key) over same as cluster, min(rowid) over same as cluster_number
from raw.queries
window same as (partition by dataset, language, instruction)
qualify count(*) over same > 1;

comment on view main.query_clusters is
'One row per query whose text another query of its query set and language repeats (Just-Eval has 22 such texts): cluster is the same for both; cluster_number is a number of it, for joins. Their answers are one observation in every standard error.';
