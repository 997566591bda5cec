-- $1: file, $2: rows at most, $3: rows to skip. Parquet files keep the order in which they were written.
select *
from read_parquet($1)
limit $2
offset $3
