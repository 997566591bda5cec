create or replace view main.paper_score_rows as
with
scores as (
    select * from main.paper_scores
),
-- a cell without scores is shown where its model, method, language and dpo have none with scores
ours as (
    select
        language, model, size_class, method, dpo, n_multi + n_safety as n_expected, quantization, settings_id
    from main.cells
    where table_place is not null
    qualify row_number() over (
        partition by language, model, method, dpo
        order by cell_id in (select cell_id from scores where origin = 'ours') desc, table_place
    ) = 1
),
shown as (
    select
        'ours' as origin, null::varchar as paper_table, language, model, size_class, method, dpo, n_expected,
        quantization, settings_id
    from ours
    union all
    select distinct 'published', paper_table, language, model, size_class, method, dpo, null::bigint, 'none', null
    from main.printed_values
    where is_score
),
wide as (
    select
        origin, paper_table, language, model, method, dpo,
        unnest(main.printed_scores(metric, value)),
        max(n) filter (where metric not in ('avg', 'safety')) as n_multi,
        max(n) filter (where metric = 'safety') as n_safety,
        any_value(judge) as judge,
        any_value(reading) as reading
    from scores
    group by origin, paper_table, language, model, method, dpo
)
select
    shown.origin, shown.paper_table, shown.language, shown.model, shown.size_class, shown.method, shown.dpo,
    columns(wide.* exclude (origin, paper_table, language, model, method, dpo, n_multi, n_safety, judge, reading)),
    case when shown.origin = 'ours' then coalesce(wide.n_multi, 0) + coalesce(wide.n_safety, 0) end as n_judged,
    shown.n_expected,
    wide.judge, wide.reading, shown.quantization, shown.settings_id,
    (wide.helpful + wide.clear + wide.factual + wide.depth + wide.engaging) / 5 as aspects_mean
from shown
left join wide
    on wide.origin = shown.origin and wide.paper_table is not distinct from shown.paper_table
    and wide.language = shown.language and wide.model = shown.model and wide.method = shown.method
    and wide.dpo = shown.dpo
order by
    shown.language <> 'en', shown.language, shown.size_class nulls last, shown.model,
    main.method_order(shown.method), shown.method, shown.dpo;

comment on view main.paper_score_rows is
'One row per origin (ours, published), paper table and cell: the rows of Tables 1, 2 and 3 with scores side by side. n_judged of n_expected responses have a score; a cell without any has a row with empty scores. avg is over the responses that have all five aspects, aspects_mean is the mean of the five values of the row; they differ where a judge left out an aspect. paper_scores describes the choice among several.';
