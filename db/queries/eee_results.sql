-- $1: icl_local.store.Selection. Score means and critical errors as results of Every Eval Ever, with what a record of
-- their query set and model file holds; NULL for what is left out of a record.
with cells as (
    select
        responses.cell_id,
        any_value(cells.weights) as weights,
        any_value(responses.dataset) as dataset,
        any_value(responses.model) as model,
        any_value(responses.variant) as variant,
        any_value(responses.dpo) as dpo,
        any_value(responses.quantization) as quantization,
        any_value(responses.method) as method,
        any_value(responses.language) as language,
        any_value(responses.settings_id) as settings_id,
        any_value(models.registry_name) as registry_name,
        any_value(responses.parameters) as parameters,
        any_value(responses.gguf_sha256) as gguf_sha256,
        any_value(responses.file_name) as file_name,
        count(distinct responses.query_id) as n_queries,
        bool_and(responses.exact) as exact,
        strftime(max(responses.created_at), '%Y-%m-%dT%H:%M:%S+00:00') as made_at,
        string_agg(distinct runs.llama_build, ', ' order by runs.llama_build) as llama_build,
        any_value(settings) as settings,
        any_value(prompts.head || '{query}' || prompts.tail) as prompt_template
    from main.responses as responses
    inner join raw.responses as kept on kept.response_id = responses.response_id
    inner join raw.models as models on models.model_id = kept.model_id
    left join raw.cells as cells on cells.cell_id = responses.cell_id
    left join raw.settings as settings on settings.settings_id = responses.settings_id
    left join raw.runs as runs on runs.run_id = responses.run_id
    left join raw.prompts as prompts on prompts.prompt_id = responses.prompt_id
    where main.selected($1, responses.model, responses.method, responses.language, responses.split, responses.dataset, responses.quantization)
    group by responses.cell_id
),

-- A server may refuse a temperature; then its own is not known. Judgments of local models record no parameters.
judges as (
    select
        judges.judge_id,
        any_value(judges.model) as model,
        any_value(judges.backend) as backend,
        case
            when bool_and(judgments.parameters is null or json_exists(judgments.parameters, '$.temperature'))
            then (any_value(judges.settings) ->> 'temperature')::double
        end as temperature
    from raw.judges as judges
    inner join raw.judgments as judgments on judgments.judge_id = judges.judge_id
    group by judges.judge_id
),

results as (
    select
        means.cell_id,
        1 as part,
        means.metric as name,
        'mean ' || means.metric || ' of answers, scored 1 to 5 by a judge (' || means.template || ')' as description,
        false as lower_is_better,
        1 as least,
        5 as most,
        means.judge,
        case
            when templates.text <> '' then {
                'judges': [
                    {'model_info': {'name': means.judge, 'id': judges.model}, 'temperature': judges.temperature}
                ],
                'input_prompt': templates.text
            }
        end as llm_scoring,
        means.mean as score,
        means.n,
        means.ci_low,
        means.ci_high,
        'Wilson score interval of the mean, t quantile, queries of one text as one observation' as method,
        means.se,
        means.sd
    from main.score_means as means
    inner join judges on judges.judge_id = means.judge_id
    left join raw.judge_templates as templates on templates.template_sha256 = means.template_sha256
    -- people label samples: no score of all answers
    where means.reading = 'strict' and judges.backend <> 'human'

    union all

    select
        cell_id,
        2,
        error,
        case error
            when 'infinite_loop' then 'percent of answers that repeat one unit of text without end'
            when 'infinite_loop_literal'
            then 'percent of answers with any sequence of characters repeated more than 5 times'
            when 'unintended_code' then 'percent of answers with code where the query''s task is not coding'
            else error
        end,
        true,
        0,
        100,
        null,
        null,
        percent,
        n,
        ci_low,
        ci_high,
        'Wilson score interval',
        null,
        null
    from main.error_rates
),

described as (
    select
        cells.dataset,
        cells.model,
        cells.variant,
        cells.dpo,
        cells.quantization,
        cells.weights,
        cells.registry_name,
        cells.made_at,
        {
            'name': main.with_dpo(cells.model, cells.dpo),
            'id': null::varchar,
            'inference_engine': case
                when cells.settings.backend = 'llama.cpp' then {'name': 'llama.cpp', 'version': cells.llama_build}
            end,
            'additional_details': {
                'variant': cells.variant, 'quantization': cells.quantization, 'file': cells.file_name,
                'gguf_sha256': cells.gguf_sha256, 'parameters': cells.parameters::varchar
            }
        } as model_info,
        {
            'evaluation_name': format('{} {} {}: {}', cells.dataset, cells.method, cells.language, results.name),
            -- Just-Eval in English is on the hub; translations and users' files are not
            'source_data': case
                when cells.dataset = 'just-eval' and cells.language = 'en'
                then {
                    'dataset_name': cells.dataset, 'source_type': 'hf_dataset', 'hf_repo': 're-align/just-eval-instruct',
                    'samples_number': cells.n_queries, 'additional_details': null
                }
                else {
                    'dataset_name': cells.dataset, 'source_type': 'other', 'hf_repo': null, 'samples_number': null,
                    'additional_details': {'language': cells.language, 'queries': cells.n_queries::varchar}
                }
            end,
            'evaluation_timestamp': cells.made_at,
            'generation_config': {
                'generation_args': {
                    'temperature': case
                        when cells.settings.backend is not null then coalesce(cells.settings.temperature, 0)
                    end,
                    'top_p': cells.settings.top_p,
                    'max_tokens': nullif(cells.settings.max_tokens, 0),
                    'prompt_template': nullif(cells.prompt_template, '')
                },
                'additional_details': {
                    'method': cells.method,
                    'language': cells.language,
                    'repetition_penalty': cells.settings.repetition_penalty::varchar,
                    'penalty_rule': cells.settings.penalty_rule,
                    'kv_type': cells.settings.kv_type,
                    'min_p': cells.settings.min_p::varchar,
                    'exact_batching': case cells.exact when true then 'True' when false then 'False' end,
                    'settings_id': cells.settings_id,
                    'cell_id': cells.cell_id
                }
            },
            'metric_config': {
                'evaluation_description': results.description, 'lower_is_better': results.lower_is_better,
                'score_type': 'continuous', 'min_score': results.least, 'max_score': results.most,
                'llm_scoring': results.llm_scoring
            },
            'score_details': {
                'score': results.score,
                'uncertainty': {
                    'num_samples': results.n,
                    'confidence_interval': case
                        when results.ci_low is not null
                        then {
                            'lower': results.ci_low, 'upper': results.ci_high, 'confidence_level': 0.95::double,
                            'method': results.method
                        }
                    end,
                    'standard_error': case
                        when results.se is not null then {'value': results.se, 'method': 'analytic'}
                    end,
                    'standard_deviation': case when results.se is not null then results.sd end
                }
            }
        } as result,
        row_number() over (order by
            cells.dataset, cells.model, cells.variant, cells.dpo, cells.quantization, cells.method, cells.language,
            cells.settings_id, cells.cell_id, results.part, results.name, results.score, results.sd, results.se,
            results.judge
        ) as place
    from cells
    inner join results on results.cell_id = cells.cell_id
)

select
    dataset,
    model,
    variant,
    dpo,
    first(registry_name order by place) as registry_name,
    max(made_at) as made_at,
    first(model_info order by place) as model_info,
    list(result order by place) as results
from described
group by dataset, model, variant, dpo, quantization, weights
order by min(place)
