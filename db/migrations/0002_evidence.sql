-- Columns are added at the end of their tables; older rows have NULL there.
alter table raw.responses add column answer_rule integer;    -- how `text` was cut from `raw_text`: NULL or 1: before
                                                             -- version 2; see detect/answer.py; NULL in imported rows
alter table raw.responses add column tokens integer[];       -- generated ids, the end token included; NULL: a server
alter table raw.responses add column end_token varchar;      -- text of the token that ended the answer: <|im_end|> ...
alter table raw.gguf_files add column vocab_sha256 varchar;  -- of the tokenizer: texts become the same ids where it is equal
