-- Sampled responses. NULL in all of these: greedy.
alter table raw.settings add column temperature double;
alter table raw.settings add column top_p double;
alter table raw.settings add column min_p double;
alter table raw.responses add column draw_seed bigint;
alter table raw.responses add column draw integer;           -- from 1 for each query, cell and seed
