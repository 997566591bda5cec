-- true: control tokens in the text of a query were tokenized as text; NULL: as control tokens
alter table raw.settings add column plain_queries boolean;
