-- Critical errors, for Every Eval Ever.
select cell_id, error, percent, ci_low, ci_high, n
from main.error_rates
order by all
