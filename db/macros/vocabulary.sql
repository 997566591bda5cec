-- Words that several views share: methods, finish reasons, statuses of judgments, what the tables show.

-- the study's order of methods; others follow, by name
create or replace macro main.method_order(method) as
    coalesce(list_position(['zero-shot', 'urial', 'instruct'], method), 4);

-- whether a response has a text to judge
create or replace macro main.answered(finish_reason) as finish_reason not in ('prompt_too_long', 'error');

-- whether another attempt follows one of this status
create or replace macro main.transient(status) as status in ('http_error', 'quota');

-- whose cells tables and figures show: the variable icl_origin, ours by default
create or replace macro main.shown_origin() as coalesce(getvariable('icl_origin'), 'ours');

-- size class of a model the paper names, from the parameters in its name
create or replace macro main.printed_size(model) as
    case when regexp_extract(model, '([0-9.]+)B$', 1)::double < 2 then 'small' else 'medium' end;
