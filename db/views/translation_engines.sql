create or replace view main.translation_engines as
with counted as (
    select
        dataset,
        language,
        engine,
        count(*) as n,
        count(*) filter (where n_flags > 0) as n_flagged,
        count(*) filter (where severity >= 10) as n_unusable
    from main.translation_candidates
    where current_source
    group by dataset, language, engine
),

agreed as (
    select
        dataset,
        language,
        engine,
        count(*) as n_reviewed,
        100 * avg(identical::integer) as percent_identical,
        avg(chrf) as mean_chrf,
        avg(ter) as mean_ter
    from main.translation_agreement
    group by dataset, language, engine
)

select
    counted.dataset,
    counted.language,
    counted.engine,
    counted.n,
    counted.n_flagged,
    counted.n_unusable,
    coalesce(agreed.n_reviewed, 0) as n_reviewed,
    agreed.percent_identical,
    agreed.mean_chrf,
    agreed.mean_ter
from counted
left join agreed
    on agreed.dataset = counted.dataset
    and agreed.language = counted.language
    and agreed.engine = counted.engine;

comment on view main.translation_engines is
'One row per query set, language and engine: candidates, flagged ones, and their similarity to the final texts (means over single texts).';
