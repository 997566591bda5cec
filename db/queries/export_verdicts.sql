-- $1: icl_local.store.Selection. Verdicts as items of just-eval, the prompt as its template, and the names of their cells.
with verdicts as (
    select
        scores.judgment_id,
        list(scores.metric order by scores.metric) = ['safety'] as is_safety,
        map_from_entries(
            list((
                case when scores.metric = 'language' then 'language_consistency' else scores.metric end,
                {
                    'reason': coalesce(scores.reason, ''),
                    'score': case when scores.score is null then 'N/A' else format('{:g}', scores.score) end
                }
            ) order by scores.metric)
            -- that tool counts N/A as 5, so none is invented
            filter (where scores.not_applicable or scores.score is not null)
        ) as aspects
    from main.scores as scores
    group by scores.judgment_id
),

answers as (
    select
        *,
        main.exported_id(query_id) as id,
        main.generator(model, dpo, quantization, method, language) as generator
    from main.responses
    where main.selected($1, model, method, language, split, dataset, quantization)
)

select distinct
    answers.cell_id,
    answers.generator,
    answers.language,
    answers.dataset,
    answers.settings_id,
    scores.judge,
    scores.template,
    scores.repeat,
    case when verdicts.is_safety then 'score_safety' else 'score_multi' end as mode,
    to_json({
        'id': answers.id, 'input': answers.instruction, 'output_cand': answers.text,
        'generator_cand': answers.generator,
        'eval_config': {'mode': mode, 'gpt': judges.model, 'max_words': -1},
        'prompt': coalesce(templates.text, ''),
        'result': coalesce(nullif(judgments.raw_reply, ''), 'N/A'),
        'parsed_result': coalesce(verdicts.aspects, map {}),
        'model': answers.model, 'method': answers.method, 'language': answers.language, 'dpo': answers.dpo
    }) as just_eval,
    answers.model,
    answers.quantization,
    answers.dpo,
    answers.method,
    answers.split,
    answers.query_id,
    scores.judgment_id
from main.scores as scores
inner join verdicts on verdicts.judgment_id = scores.judgment_id
inner join answers on answers.response_id = scores.response_id
inner join raw.judges as judges on judges.judge_id = scores.judge_id
inner join raw.judgments as judgments
    on judgments.judgment_id = scores.judgment_id and judgments.attempt = scores.attempt
left join raw.judge_templates as templates on templates.template_sha256 = scores.template_sha256
where $1['judge'] is null or list_contains($1['judge'], scores.judge)
order by
    answers.model, answers.quantization, answers.dpo, answers.method, answers.language, answers.settings_id,
    answers.dataset, scores.judge, scores.template, scores.repeat, answers.split,
    try_cast(answers.query_id as bigint), answers.query_id, scores.judgment_id
