-- What it takes to trust a judge: samples that people label, their labels as judgments, scores on another judge's scale.
-- raw.judges.backend is also `human` (model: the rater). raw.judgments.status is also `skipped` or `withdrawn` (a human
-- rater's; ended, without scores); an attempt that takes one back names it in parameters: {"undoes": ATTEMPT}.
create table raw.samples (             -- a random sample of each cell; a later row of a key replaces it
    sample_id varchar primary key,     -- key of name, seed, strata and the frame's responses
    name varchar not null,             -- what a user types; the latest sample of a name counts
    seed bigint not null,
    per_cell integer not null,         -- the sample is the items with place <= per_cell
    strata varchar,                    -- task; NULL: splits alone
    filters json not null,             -- options that chose the frame: names by column
    created_at timestamp not null
);

create table raw.sample_items (        -- the frame: every answered response of the chosen cells, drawn or not
    sample_id varchar not null,
    response_id varchar not null,
    stratum varchar not null,          -- part of a cell: its split, with strata its split and first task
    n_stratum integer not null,        -- responses of the frame in this cell and stratum
    place integer not null,            -- rank in cell and stratum by key of seed, split and query, from 1
    primary key (sample_id, response_id)
);

alter table raw.judgments add column probabilities double[][]; -- one a metric: of the scores 1 to 5 and of N/A

create table raw.equatings (           -- scores of one judge on the scale of another, from answers that both scored
    equating_id varchar primary key,
    from_judge_id varchar not null,
    from_template_sha256 varchar not null,
    to_judge_id varchar not null,
    to_template_sha256 varchar not null,
    language varchar not null,
    metric varchar not null,
    method varchar not null,           -- mean | linear | equipercentile
    n integer not null,                -- answers that both scored
    n_queries integer not null,
    n_systems integer not null,
    r_within double,                   -- correlation within systems
    intercept double,                  -- value: intercept + slope * score; NULL if refused
    slope double,
    map double[],                      -- values of the scores 1 to 5; equipercentile only
    var_a double,                      -- of the intercept, by the bootstrap; the next two likewise
    cov_ab double,
    var_b double,
    tau double,                        -- error of a mean of a system that was left out
    refused varchar,                   -- the reason; NULL: usable
    samples integer not null,          -- bootstraps
    seed bigint not null,
    created_at timestamp not null
);
