-- $1: file, $2: rows at most, $3: rows to pass over. Parquet files keep the order they were written in.
select *
from read_parquet($1)
limit $2
offset $3
