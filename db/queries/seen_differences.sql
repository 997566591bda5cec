-- $1: a judge. Median standard deviation of the differences between two methods on the same queries, and number of pairs.
select median(abs(difference / dz)) as sd, count(*) as n
from main.paired_differences
where differs_in = 'method' and judge = $1 and reading = 'strict' and metric = 'avg' and n >= 30 and abs(dz) > 0
