-- $1: vocab_sha256. Ids whose text is stored.
select token_id from raw.tokens where vocab_sha256 = $1
