-- $1: icl_local.store.Selection; $2: query id. One row per query, with a list of its answers, empty if it has none.
with
found as (
    select
        response_id,
        list(error order by error) as errors
    from raw.critical_errors
    where found
    group by response_id
)
select
    queries.dataset,
    queries.query_id,
    queries.language,
    any_value(queries.split) as split,
    any_value(queries.task) as task,
    any_value(queries.instruction) as instruction,
    coalesce(
        list(
            {
                'model': responses.model,
                'quantization': responses.quantization,
                'dpo': responses.dpo,
                'method': responses.method,
                'settings_id': responses.settings_id,
                'sampling':
                    main.sampling_in_words(settings) || ', draw ' || responses.draw || ' of seed ' || responses.draw_seed,
                'finish_reason': responses.finish_reason,
                'new_tokens': responses.new_tokens,
                'errors': coalesce(found.errors, []),
                'prompt': coalesce(prompts.head || queries.instruction || prompts.tail, prompts.head),
                'text': responses.text
            }
            order by
                responses.method, responses.model, responses.dpo, responses.quantization, responses.settings_id,
                responses.draw_seed, responses.draw, responses.response_id
        ) filter (where responses.response_id is not null),
        []
    ) as answers
from raw.queries as queries
left join main.responses as responses
    on
        responses.query_key = queries.query_key
        and main.selected(
            $1, responses.model, responses.method, responses.language, responses.split, responses.dataset,
            responses.quantization
        )
left join raw.settings as settings on settings.settings_id = responses.settings_id
left join found on found.response_id = responses.response_id
left join raw.prompts as prompts on prompts.prompt_id = responses.prompt_id
where
    queries.query_id = $2
    and ($1['dataset'] is null or list_contains($1['dataset'], queries.dataset))
    and ($1['language'] is null or list_contains($1['language'], queries.language))
    and ($1['split'] is null or list_contains($1['split'], queries.split))
group by queries.dataset, queries.query_id, queries.language, queries.query_key
order by queries.dataset, queries.language, queries.query_key
