-- {table}: a table of schema raw.
select *
from raw.{table}
