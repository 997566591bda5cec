-- Tables of schema raw. Column names are the spool's field names: a record of type T is a row of raw.T.
-- Keys are deterministic (icl_local/identity.py). References are by key; `icl db doctor` checks them, because rows
-- arrive in spool order and DuckDB cannot defer foreign keys.
create schema if not exists raw;

create table raw.models (
    model_id varchar primary key,      -- key of label, variant, dpo
    label varchar not null,            -- printed name, "Llama3.1 8B"
    variant varchar not null,          -- base | instruct | imported
    dpo boolean not null,
    parameters bigint,                 -- NULL if unknown
    size_class varchar,                -- small (< 2B parameters) | medium | NULL
    registry_name varchar              -- name in the registry, NULL for a plain file
);

create table raw.gguf_files (
    gguf_sha256 varchar primary key,
    file_name varchar not null,        -- last path part; no user path is stored
    source varchar not null,           -- file | embedded | hf:owner/repo/file@commit
    bytes bigint not null,
    architecture varchar,
    quantization varchar not null,     -- Q4_1, F16, ... ; 'none' for a server's weights
    parameters bigint,
    context_length bigint,
    vocab_size bigint,
    add_bos boolean,
    has_chat_template boolean,
    conversion_id varchar              -- raw.conversions, NULL if it was not made here
);

create table raw.datasets (
    dataset varchar primary key,       -- name or content hash
    source varchar not null,           -- path's last part or hub id@commit
    sha256 varchar,
    created_at timestamp
);

create table raw.queries (
    query_key varchar primary key,     -- key of dataset, query_id, language, instruction
    dataset varchar not null,
    query_id varchar not null,         -- as in the source, text
    language varchar not null,
    split varchar not null,            -- multi | safety
    task varchar[],                    -- NULL unknown, [] none
    topic varchar[],
    source_set varchar,                -- Just-Eval's `dataset` field: lima, koala, ...
    difficulty varchar,
    instruction varchar not null
);

create table raw.prompts (
    prompt_id varchar primary key,     -- key of method, language, head, tail, stops
    method varchar not null,
    language varchar not null,
    head varchar not null,             -- text before the query
    tail varchar,                      -- text after the query; NULL: head is the whole prompt
    stops varchar[] not null
);

create table raw.settings (
    settings_id varchar primary key,
    backend varchar not null,          -- llama.cpp | openai
    repetition_penalty double,
    penalty_rule varchar,              -- transformers | server:<text> | none
    max_tokens integer,
    kv_type varchar,
    chat_date varchar,                 -- pinned date for chat templates that print one
    stop_on_loop boolean
);

create table raw.runs (
    run_id varchar primary key,
    command varchar not null,          -- run, study, demo, import ...
    version varchar not null,
    started_at timestamp not null,
    seed bigint,
    llama_build varchar,
    cpu_features varchar,
    n_threads integer,
    host varchar                       -- free memory, no host name
);

create table raw.run_cells (           -- one row per cell and process: timings, for throughput
    cell_id varchar primary key,
    run_id varchar not null,
    model_id varchar not null,
    gguf_sha256 varchar,
    method varchar not null,
    language varchar not null,
    settings_id varchar,
    status varchar not null,           -- started | done | interrupted | failed; a later row replaces started
    error varchar,
    n_wanted integer not null,
    n_done integer not null,
    n_parallel integer,
    gpu_layers integer,
    exact boolean,
    engine_settings json,
    prompt_tokens bigint,              -- prompt tokens of the responses
    prefilled_tokens bigint,           -- prompt tokens decoded (a shared prefix once)
    new_tokens bigint,
    wall_seconds double,               -- from the first prompt on; NULL if loading or probing failed
    prefill_seconds double,
    decode_seconds double,
    peak_rss_bytes bigint,
    ended_at timestamp
);

create table raw.responses (
    response_id varchar primary key,
    model_id varchar not null,
    gguf_sha256 varchar,               -- NULL for imported texts and servers
    query_key varchar not null,
    prompt_id varchar,
    prompt_sha256 varchar,             -- of the full prompt text
    settings_id varchar,
    run_id varchar not null,
    method varchar not null,
    language varchar not null,
    text varchar not null,
    raw_text varchar not null,
    finish_reason varchar not null,    -- stop | eog | length | prompt_too_long | stopped_on_loop | error | imported
    prompt_tokens integer,
    new_tokens integer,
    tokens_saved integer,              -- by stop-on-loop
    exact boolean,                     -- NULL if it does not apply
    text_language varchar,             -- identified without a judge; NULL if too short
    source varchar,                    -- file an imported text came from
    created_at timestamp not null
);

create table raw.critical_errors (
    response_id varchar not null,
    error varchar not null,            -- infinite_loop | infinite_loop_literal | unintended_code
    found boolean not null,
    detector_version varchar not null,
    start_char integer,                -- all lengths in characters
    unit varchar,                      -- the repeated unit, or the code evidence
    copies double,
    span integer,
    reaches_end boolean,
    kind varchar,                      -- code: fenced | python | sql | ...
    primary key (response_id, error)
);

create table raw.judges (
    judge_id varchar primary key,      -- key of backend, model, base_url, weights, settings
    name varchar not null,             -- what a user types: openai:gpt-4o, local:file.gguf
    backend varchar not null,          -- openai | local | imported
    model varchar not null,
    base_url varchar,                  -- without credentials
    gguf_sha256 varchar,
    settings json
);

create table raw.judge_templates (
    template_sha256 varchar primary key,
    name varchar not null,             -- multi, safety, multi.rubric-first, just-eval.multi, ...
    language varchar,                  -- NULL: for every language that has no text of its own
    text varchar not null,
    metrics varchar[] not null
);

create table raw.judgments (           -- a verdict is one row: ten million rows of one aspect took long to group
    judgment_id varchar not null,
    attempt integer not null check (attempt > 0),
    response_id varchar not null,
    judge_id varchar not null,
    template_sha256 varchar not null,
    repeat integer not null,
    status varchar not null,           -- ok | repaired | not_applicable | incomplete | out_of_range | refused | truncated |
                                       -- parse_error | rejected (for good); http_error | quota (tried again)
    scores double[],                   -- one a metric of the template, in its order; NULL inside: the judge gave none,
    not_applicable boolean[],          -- NULL whole: the attempt is tried again; the two beside it likewise
    reasons varchar[],
    raw_reply varchar,
    repairs varchar[],                 -- repairs made to read the reply: fence, trailing_comma, ...
    error varchar,
    http_status integer,
    finish_reason varchar,
    response_model varchar,
    system_fingerprint varchar,
    structured varchar,                -- json_schema | json_object | text | grammar
    parameters json,                   -- what was sent beside the prompt, after what the server refused was left out
    prompt_tokens integer,
    completion_tokens integer,
    cost_usd double,
    seconds double,
    batch_id varchar,
    created_at timestamp not null,
    primary key (judgment_id, attempt)
);

create table raw.judge_batches (       -- one row per event of a submission to the Batch API
    submission_id varchar not null,    -- made here and sent as the batch's metadata: found again after a crash
    event varchar not null,            -- prepared (before anything is sent) | created | closed | abandoned
    judge_id varchar not null,
    batch_id varchar,                  -- the server's name of it
    n_requests integer not null,
    structured varchar not null,
    parameters json,
    created_at timestamp not null,
    primary key (submission_id, event)
);

create table raw.judge_batch_items (   -- judgments of a submission; custom_id is the judgment_id
    submission_id varchar not null,
    judgment_id varchar not null,
    attempt integer not null,
    response_id varchar not null,
    template_sha256 varchar not null,
    repeat integer not null,
    primary key (submission_id, judgment_id)
);

create table raw.training_runs (
    training_run_id varchar primary key,
    base_source varchar not null,
    base_sha256 varchar not null,
    dataset varchar not null,
    dataset_sha256 varchar,
    preset varchar not null,
    parameters json not null,
    method varchar not null,           -- full | lora
    status varchar not null,           -- started | done | failed
    checkpoint_sha256 varchar,
    started_at timestamp not null,
    ended_at timestamp
);

create table raw.training_steps (
    training_run_id varchar not null,
    step integer not null,
    epoch double,
    loss double,
    reward_margin double,
    reward_accuracy double,
    reward_chosen double,
    reward_rejected double,
    learning_rate double,
    grad_norm double,
    tokens bigint,
    seconds double,
    primary key (training_run_id, step)
);

create table raw.conversions (
    conversion_id varchar primary key,
    source_sha256 varchar not null,
    source varchar not null,
    training_run_id varchar,
    gguf_sha256 varchar,               -- NULL if the gate refused the file
    quantization varchar not null,
    parent_gguf_sha256 varchar,        -- the file it was quantised from
    gate varchar not null,             -- passed | failed | skipped
    gate_report json,
    created_at timestamp not null
);

create table raw.translations (        -- machine candidates; a refusal or an empty reply is one too
    translation_id varchar primary key, -- key of query, source text, languages, engine and its settings
    dataset varchar not null,
    query_id varchar not null,
    source_language varchar not null,
    language varchar not null,
    engine varchar not null,           -- opus:owner/name | openai:MODEL | local:file.gguf
    engine_settings json,              -- settings that change the text: weights, prompt, decoding
    source_text varchar not null,
    source_fields json,                -- the other fields of the source's item, which a built set keeps
    text varchar not null,
    finish_reason varchar,             -- stop | eog | length | stopped_on_loop | refused | rejected | prompt_too_long
    error varchar,                     -- why a server or engine rejected the query for good
    checks json,                       -- findings of icl_local/translate/checks.py, with their version
    prompt_tokens integer,
    completion_tokens integer,
    cost_usd double,
    created_at timestamp not null
);

create table raw.reviews (             -- append only: the latest row that no undo names counts
    review_id varchar primary key,
    dataset varchar not null,
    query_id varchar not null,
    language varchar not null,
    translation_id varchar,            -- the candidate accepted, or the one the edit began with
    action varchar not null,           -- accept | edit | skip | undo
    text varchar,                      -- the final text; NULL for skip and undo
    undoes varchar,                    -- review_id that an undo takes back
    reviewer varchar,
    source varchar,                    -- file an imported review came from
    created_at timestamp not null
);

create table raw.translation_scores (  -- a candidate against the final text of a review, by sacrebleu
    translation_id varchar not null,
    review_id varchar not null,
    chrf double not null,              -- 0 to 100, 100: the same
    ter double not null,               -- edits per 100 words of the final text
    signature varchar not null,        -- sacrebleu's, with its version
    primary key (translation_id, review_id)
);

create table raw.probes (
    probe_id varchar primary key,      -- key of file, build, CPU features, settings
    gguf_sha256 varchar not null,
    llama_build varchar not null,
    cpu_features varchar not null,
    settings json not null,
    exact boolean not null,
    n_prompts integer,
    n_tokens integer,
    tokens_per_second double,          -- at `parallel`
    parallel integer,                  -- sequences at once that were fastest here
    detail json,
    created_at timestamp not null
);

create table raw.study_cells (         -- cells requested by a study; the latest study_id of a name counts
    study_id varchar not null,         -- key of the name and all cells
    study varchar not null,
    cell_number integer not null,
    model varchar not null,            -- printed name, as in raw.models
    method varchar not null,
    language varchar not null,
    dpo boolean not null,
    dataset varchar,                   -- NULL: whatever the query files are called
    n_wanted integer not null,         -- queries
    created_at timestamp not null,
    primary key (study_id, cell_number)
);

create table raw.benchmarks (
    benchmark_id varchar not null,
    contender varchar not null,
    n_parallel integer,
    model varchar not null,
    quantization varchar,
    n_queries integer,
    new_tokens bigint,
    prompt_tokens bigint,
    seconds double,
    tokens_per_second double,
    detail json,
    created_at timestamp not null,
    primary key (benchmark_id, contender, n_parallel)
);

create table raw.bootstraps (          -- seeded percentile intervals of score means, by icl bootstrap
    bootstrap_id varchar primary key,  -- key of the cell, judge, metric, its scores, samples and seed
    model varchar not null,
    quantization varchar not null,
    method varchar not null,
    language varchar not null,
    dpo boolean not null,
    settings_id varchar not null,
    judge_id varchar not null,
    template_sha256 varchar not null,
    reading varchar not null,          -- strict | just_eval
    metric varchar not null,
    mean double not null,
    se double not null,                -- standard deviation of the resampled means
    ci_low double not null,            -- 2.5 and 97.5 % quantiles of them
    ci_high double not null,
    n bigint not null,
    samples integer not null,
    seed bigint not null,
    created_at timestamp not null
);

create table raw.tombstones (          -- rows a user removed; a rebuild does not restore them
    table_name varchar not null,
    key varchar not null,
    active boolean not null,           -- false: may be made again; of two rows the later counts
    created_at timestamp not null,
    primary key (table_name, key)
);

create table raw.published_scores (
    paper_table varchar not null,
    language varchar not null,
    model varchar not null,
    model_printed varchar not null,
    method varchar not null,
    dpo boolean not null,
    metric varchar not null,
    published double not null,
    primary key (paper_table, language, model, method, dpo, metric)
);

create table raw.published_errors (
    paper_table varchar not null,
    language varchar not null,
    model varchar not null,
    model_printed varchar not null,
    method varchar not null,
    dpo boolean not null,
    error varchar not null,
    published_percent double not null,
    primary key (paper_table, language, model, method, dpo, error)
);

create table raw.spool_files (         -- ingested length of each spool file; changed with the rows
    file varchar primary key,          -- name inside the spool folder
    ingested_bytes bigint not null
);

create table raw.store_meta (          -- hashes of the views and published figures this database holds
    name varchar primary key,
    value varchar not null
);

create table raw.rejected_rows (       -- spool records that fit no table; they stay in the spool
    rejected_id varchar primary key,   -- key of table, content
    file varchar not null,
    table_name varchar not null,
    reason varchar not null,
    content json
);
