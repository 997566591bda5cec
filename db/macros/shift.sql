-- Token shift: how far a written token is from what the scoring model would write (views token_shift and others).

-- class of a place among the logits, as in Lin et al., 2023; shifted: not among the first three
create or replace macro main.is_shifted(place) as place > 3;
create or replace macro main.shift_class(place) as
    case when place = 1 then 'unshifted' when not main.is_shifted(place) then 'marginal' else 'shifted' end;

-- group of positions, from 1
create or replace macro main.position_group(position) as case
    when position <= 2 then position::varchar
    when position <= 5 then '3-5'
    when position <= 10 then '6-10'
    when position <= 20 then '11-20'
    when position <= 50 then '21-50'
    when position <= 100 then '51-100'
    when position <= 200 then '101-200'
    else '201-'
end;

-- standard error of the share sum(x) / sum(n) of answers, which are clusters: x of the n tokens of each
create or replace macro main.share_se(n_answers, s, m, ss, sm, mm) as case when n_answers > 1 then
    sqrt(greatest(0, ss - 2 * (s / m) * sm + power(s / m, 2) * mm) * n_answers / (n_answers - 1)) / m
end;

-- a token as a table shows it: spaces at its ends and line breaks are seen
create or replace macro main.visible_token(token) as
    replace(regexp_replace(replace(token, chr(10), '⏎'), '^ | $', '␣', 'g'), chr(9), '⇥');
