create or replace view main.expectations as
select
    expected ->> '$.reference[*]' as reference,
    expected ->> '$.choices[*]' as choices,
    (expected ->> '$.answer')::integer as answer,
    expected -> '$.checks' as checks,
    expected, created_at, query_key, expectation_id
from raw.expectations
qualify row_number() over (partition by query_key order by created_at desc, expectation_id) = 1;

comment on view main.expectations is
'One row per query that expects something of an answer: references, choices with the right one (an index from 0), and checks, which are verifiable instructions. The rules of icl judge --judge rules score with it.';
