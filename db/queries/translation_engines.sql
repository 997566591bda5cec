-- $1 data set or NULL. Quality of each engine.
select
    dataset, language, engine, n, n_flagged, n_unusable, n_reviewed, percent_identical, mean_chrf, mean_ter
from main.translation_engines
where $1 is null or dataset = $1
order by dataset, language, engine
