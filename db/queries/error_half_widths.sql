-- $1: numbers of labels; $2: numbers of answers; $3: answers of their cells. How far the labels of a stratum leave a
-- corrected error rate open, in percentage points, where the detector is right in all of them.
select 100 * sqrt(main.rate_part(0, n, m, m_all, 1))
from (select unnest($1::double[]) as n, unnest($2::double[]) as m, unnest($3::double[]) as m_all)
