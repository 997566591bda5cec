-- $1: icl_local.store.Selection. Answers as items of just-eval and of AlpacaEval, and the names of their cells.
with answers as (
    select
        *,
        main.exported_id(query_id) as id,
        main.generator(model, dpo, quantization, method, language) as generator,
        case when split = 'safety' then 'safety' else 'regular' end as category
    from main.responses
    where main.selected($1, model, method, language, split, dataset, quantization)
)

select
    cell_id,
    generator,
    language,
    dataset,
    settings_id,
    finish_reason,
    to_json({
        'id': id, 'instruction': instruction, 'dataset': source_set,
        'category': category, 'task': task, 'topic': topic,
        'output': text, 'generator': generator, 'datasplit': 'just_eval',
        'model': model, 'method': method, 'language': language, 'dpo': dpo
    }) as just_eval,
    to_json({
        'instruction': instruction, 'output': text, 'generator': generator,
        'dataset': coalesce(nullif(source_set, ''), dataset), 'id': id,
        'category': category, 'task': task, 'topic': topic,
        'model': model, 'method': method, 'language': language, 'dpo': dpo
    }) as alpaca_eval
from answers
order by
    model, quantization, dpo, method, language, settings_id, dataset, split,
    try_cast(query_id as bigint), query_id, response_id
