-- How probable given texts are (icl score): one row a text, the weights that score it, and the prompt before it.
create table raw.scorings (
    scoring_id varchar primary key,    -- key of kind, weights, method, prompt, text (running/choices.py)
    kind varchar not null,             -- answer | choice | reference
    response_id varchar,               -- the answer, or the response that picked among choices; NULL for a reference
    query_key varchar not null,
    choice integer,                    -- index from 0 of the choice or reference
    model_id varchar not null,         -- the weights that score
    gguf_sha256 varchar not null,
    method varchar not null,           -- of the prompt; own: an answer's own file and prompt, same: its own prompt
    language varchar not null,         -- of the prompt
    prompt_id varchar,                 -- NULL for own and same
    prompt_sha256 varchar not null,
    run_id varchar not null,
    penalty double not null,           -- repetition penalty that ranks_decoded are after
    finish_reason varchar not null,    -- scored | prompt_too_long: prompt and text exceed the context
    n_bytes bigint not null,           -- UTF-8 bytes of the scored tokens
    logprob double not null,           -- sum of logprobs, natural logarithms
    tokens integer[] not null,
    logprobs float[] not null,
    ranks integer[] not null,          -- place of each token by raw logit, from 1, equal logits by id
    ranks_decoded integer[] not null,  -- the same after the penalty
    top_ids integer[] not null,        -- first choice of the weights that score
    straddles boolean not null,        -- scoring begins before the text: a token holds its beginning and the prompt's end
    retokenised boolean not null,      -- the answer was stored without tokens
    exact boolean,                     -- as in raw.responses
    created_at timestamp not null
);

create table raw.tokens (              -- tokens that occur in raw.scorings
    vocab_sha256 varchar not null,     -- raw.gguf_files
    token_id integer not null,
    piece varchar not null,            -- text; a torn character is U+FFFD, a control token as the vocabulary spells it
    primary key (vocab_sha256, token_id)
);

create table raw.published_token_shift (  -- db/published/token_shift.csv
    model varchar primary key,         -- the aligned one
    base_model varchar not null,
    unshifted double not null,         -- percent of tokens
    marginal double not null,
    shifted double not null,
    source varchar not null
);
