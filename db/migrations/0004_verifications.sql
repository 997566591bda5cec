create table raw.verifications (      -- stored responses that were decoded again, one at a time (icl verify, icl run)
    verification_id varchar primary key, -- key of response, its tokens and texts, verifying machine, build and CPU
    response_id varchar not null,
    cell_id varchar,
    gguf_sha256 varchar not null,
    llama_build varchar,               -- of the run that made the response, like the next two
    cpu_features varchar,
    settings json,                     -- engine settings
    equal boolean not null,            -- tokens and texts are the same
    n_tokens integer not null,         -- tokens stored
    position integer,                  -- first token that differs; NULL: none does
    stored_text varchar,               -- text around the first difference, NULL if equal
    decoded_text varchar,
    verified_build varchar not null,   -- llama.cpp build and CPU features of the verifying machine
    verified_cpu_features varchar not null,
    created_at timestamp not null
);
