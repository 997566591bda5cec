-- Responses that were chosen, not generated.
alter table raw.settings add column decoding varchar;   -- choices: the most probable choice of the query; NULL: generated
alter table raw.scorings add column text varchar;       -- the choice or reference; NULL: an answer, or a row of before
