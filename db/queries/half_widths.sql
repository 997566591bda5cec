-- $1: numbers of labels; $2: numbers of answers; $3: correlation of judge and people. Half the 95 % interval of a
-- corrected mean, in points, for scores with standard deviation 1; NULL under 10 labels, as the mean itself.
select case when n >= 10 then main.t_quantile(n - 2) * sqrt((1 - $3 * $3 * (1 - n / m)) / n) end
from (select unnest($1::double[]) as n, unnest($2::double[]) as m)
