-- Score means and critical errors of every cell as results of Every Eval Ever; NULL for what is left out of a record.
with results as (
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
                'judges': [{'model_info': {'name': means.judge, 'id': judges.model}, 'temperature': 0.0::double}],
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
    inner join raw.judges as judges on judges.judge_id = means.judge_id
    left join raw.judge_templates as templates on templates.template_sha256 = means.template_sha256
    where means.reading = 'strict'

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
)

select
    cell_id,
    name,
    {
        'evaluation_description': description, 'lower_is_better': lower_is_better, 'score_type': 'continuous',
        'min_score': least, 'max_score': most, 'llm_scoring': llm_scoring
    } as metric_config,
    {
        'score': score,
        'uncertainty': {
            'num_samples': n,
            'confidence_interval': case
                when ci_low is not null
                then {'lower': ci_low, 'upper': ci_high, 'confidence_level': 0.95::double, 'method': method}
            end,
            'standard_error': case when se is not null then {'value': se, 'method': 'analytic'} end,
            'standard_deviation': case when se is not null then sd end
        }
    } as score_details
from results
order by cell_id, part, name, score, sd, se, judge
