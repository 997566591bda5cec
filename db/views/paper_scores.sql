create or replace view main.paper_scores as
with
shown as (
    select
        model, quantization, method, language, dpo, settings_id, size_class, judge, judge_id, template,
        template_sha256, reading, metric, mean, sd, se, ci_low, ci_high, n, n_expected, df, dataset, cell_id
    from main.score_means
    where table_place is not null
        and reading = coalesce(getvariable('icl_reading'), 'strict')
        and judge = coalesce(getvariable('icl_judge'), judge)
    -- of several cells the first that this judge has scored
    qualify table_place = min(table_place) over (partition by judge_id, model, method, language, dpo)
),
-- people label samples: they are shown only by name
judge as (
    select shown.judge_id
    from shown
    join raw.judges as judges on judges.judge_id = shown.judge_id
    where judges.backend <> 'human' or getvariable('icl_judge') is not null
    group by shown.judge_id
    order by sum(shown.n) desc, shown.judge_id
    limit 1
),
template as (
    select model, method, language, dpo, metric = 'safety' as is_safety, template_sha256
    from shown
    where judge_id = (select judge_id from judge)
    group by model, method, language, dpo, is_safety, template_sha256
    qualify row_number() over (
        partition by model, method, language, dpo, is_safety order by sum(n) desc, template_sha256
    ) = 1
),
ours as (
    select
        shown.language, shown.model, shown.size_class, shown.method, shown.dpo, shown.metric,
        shown.mean as value, shown.sd, shown.se, shown.ci_low, shown.ci_high, shown.n, shown.n_expected,
        shown.judge, shown.reading, shown.template, shown.quantization, shown.settings_id, shown.df, shown.dataset,
        shown.judge_id, shown.template_sha256, shown.cell_id
    from shown
    join template
        on template.model = shown.model and template.method = shown.method and template.language = shown.language
        and template.dpo = shown.dpo and template.is_safety = (shown.metric = 'safety')
        and template.template_sha256 = shown.template_sha256
    where shown.judge_id = (select judge_id from judge)
)
select
    'ours' as origin, null::varchar as paper_table, true as canonical,
    language, model, size_class, method, dpo, metric, value, sd, se, ci_low, ci_high, n, n_expected,
    judge, reading, template, quantization, settings_id, df, dataset, judge_id, template_sha256, cell_id
from ours
union all
select
    'published', paper_table, canonical, language, model, size_class, method, dpo, metric, value,
    null, null, null, null, null, null, 'gpt-4-1106-preview', null, null, 'none', null, null, null, null, null, null
from main.printed_values
where is_score;

comment on view main.paper_scores is
'One row per origin (ours, published), paper table, cell and metric: the score means behind Tables 1, 2, 3. ours: of each model, method, language and dpo the first cell (cells.table_place) with scores by one judge (variable icl_judge, else the one with most scores that is not a human rater), its most used template, one reading (variable icl_reading, else strict). published: avg is recomputed from the five printed aspects; canonical marks the first table that prints a cell.';
