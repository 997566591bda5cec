-- Critical errors, for Every Eval Ever.
select model, quantization, method, language, dpo, settings_id, error, percent, ci_low, ci_high, n
from main.error_rates
order by all
