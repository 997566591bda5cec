-- Intervals used by several views.

-- a bound of Wilson's interval for n_errors of n, as a share; the lower bound if z is negative
create or replace macro main.wilson_bound(n_errors, n, z) as greatest(0, least(1,
    (n_errors + z * z / 2 + z * sqrt(n_errors * (n - n_errors) / n + z * z / 4)) / (n + z * z)
));
