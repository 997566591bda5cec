create or replace view main.figure_4 as
select language, model, method, dpo, error, percent, ci_low, ci_high, n
from main.paper_errors
where origin = main.shown_origin() and canonical
order by
    language <> 'en', language, size_class nulls last, model,
    main.method_order(method), method, dpo, error;

comment on view main.figure_4 is
'Data of Figure 4, one row per language, model, method, dpo and error: infinite loops and unintended code in percent of the responses.';
