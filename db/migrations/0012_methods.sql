-- Methods with parameters: what the prompts of a cell are made of.
create table raw.methods (
    recipe varchar primary key,        -- of the cell (raw.cells): one method in one language, with its texts
    method varchar not null,           -- name with its parameters: urial[k=1]
    base_method varchar not null,      -- name without them
    k integer,                         -- chosen examples; NULL: a chat, or a prefix that is taken whole
    ordering bigint,                   -- permutation of the chosen, from 0; NULL for a chat
    seed bigint,                       -- that drew the chosen; NULL: the last ones, or the nearest to the query
    example_language varchar,          -- NULL without examples
    instruction varchar,               -- language of the text before the examples, or none; NULL: there is no such text
    pool varchar,                      -- name under which the examples were given; NULL: the method's own
    pool_sha256 varchar,               -- of its examples in that language
    retriever varchar                  -- ranks the examples by the query, with its version
);
alter table raw.prompts add column examples varchar[];  -- ids in the prompt's order, a prefix's own from 1; NULL unknown
