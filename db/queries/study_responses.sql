-- $1: icl_local.running.Decoding of a study. Stored responses made with these settings, with the names by which a cell
-- finds its own if its model file is not here.
with
study as (
    select unnest($1)
)
select response_id, model, method, language, dpo, dataset, query_id, draw, cell_id
from main.responses
inner join raw.settings as settings using (settings_id)
inner join study
    on settings.decoding is not distinct from nullif(study.decode, 'text')
    and settings.max_tokens is not distinct from if(study.decode = 'choices', null, study.max_tokens)
    and settings.repetition_penalty is not distinct from if(study.decode = 'choices', null, study.repetition_penalty)
    and settings.stop_on_loop is not distinct from study.stop_on_loop
    and settings.plain_queries is not distinct from nullif(study.plain_queries, false)
    and settings.temperature is not distinct from nullif(study.temperature, 0)
    and settings.top_p is not distinct from if(study.temperature > 0, study.top_p, null)
    and settings.min_p is not distinct from if(study.temperature > 0, study.min_p, null)
    and responses.draw_seed is not distinct from if(study.temperature > 0, study.draw_seed, null)
