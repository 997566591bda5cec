-- Tables of schema raw that have rows (estimated_size counts deleted rows too, so it is 0 only for an empty table).
select table_name
from duckdb_tables()
where schema_name = 'raw' and estimated_size > 0
order by table_name
