-- A cell is a row: weights, method with its prompt text, query set, language and decoding settings. Responses that
-- were stored before get theirs from db/queries/cells_of_responses.sql, after this migration and after a rebuild.
create table raw.cells (
    cell_id varchar primary key,       -- key of weights, recipe, dataset, language, settings_id (identity.cell_key)
    weights varchar not null,          -- sha256 of the GGUF file; server and model; file and model of imported texts
    recipe varchar not null,           -- key of the method and its prompt text (prompting.Prompt.recipe)
    dataset varchar not null,
    language varchar not null,
    settings_id varchar not null,      -- raw.settings, or imported
    method varchar not null,
    model_id varchar not null,
    gguf_sha256 varchar,               -- NULL for imported texts and servers
    created_at timestamp
);

alter table raw.responses add column cell_id varchar;

-- one row a cell and process; its key was called cell_id and did not know the file
create table raw.run_cells_2 (
    run_cell_id varchar primary key,
    run_id varchar not null,
    cell_id varchar,                   -- raw.cells; NULL in rows made before cells had keys
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
    prefilled_tokens bigint,           -- prompt tokens really decoded (shared prefix once)
    new_tokens bigint,
    wall_seconds double,               -- from the first prompt on; NULL where loading or probing failed
    prefill_seconds double,
    decode_seconds double,
    peak_rss_bytes bigint,
    ended_at timestamp
);
insert into raw.run_cells_2 by name select * exclude (cell_id), cell_id as run_cell_id from raw.run_cells;
drop table raw.run_cells;
alter table raw.run_cells_2 rename to run_cells;

-- intervals of means that pooled unlike responses; icl bootstrap makes them again
drop table raw.bootstraps;
create table raw.bootstraps (          -- seeded percentile intervals of score means and paired differences
    bootstrap_id varchar primary key,  -- key of the cell or pair, judge, metric, its scores, samples and seed
    cell_id varchar not null,
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
