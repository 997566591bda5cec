-- What a query expects of an answer, for rules. It is not part of a query's key: a corrected reference is a new row.
create table raw.expectations (
    expectation_id varchar primary key,  -- key of query_key, expected
    query_key varchar not null,
    expected json not null,              -- reference, choices, answer (index from 0), checks; those that the file has
    created_at timestamp not null        -- of the run that read it first, or again after another; the newest of a query counts
);
alter table raw.queries add column tags varchar[];  -- a user's labels; NULL unknown, [] none
