create or replace view main.paper_score_rows as
with
shown as (
    select
        'ours' as origin, null::varchar as paper_table, cell.language, cell.model, cell.size_class, cell.method,
        cell.dpo, cell.n_multi + cell.n_safety as n_expected, cell.quantization, cell.settings_id
    from main.paper_cells as cell
    union all
    select distinct
        origin, paper_table, language, model, size_class, method, dpo, null::bigint, quantization, settings_id
    from main.paper_scores
    where origin = 'published'
),
wide as (
    select
        origin, coalesce(paper_table, '') as paper_table, language, model, method, dpo,
        max(value) filter (where metric = 'helpfulness') as helpful,
        max(value) filter (where metric = 'clarity') as clear,
        max(value) filter (where metric = 'factuality') as factual,
        max(value) filter (where metric = 'depth') as depth,
        max(value) filter (where metric = 'engagement') as engaging,
        max(value) filter (where metric = 'avg') as avg,
        max(value) filter (where metric = 'language') as lang,
        max(value) filter (where metric = 'safety') as safe,
        max(n) filter (where metric not in ('avg', 'safety')) as n_multi,
        max(n) filter (where metric = 'safety') as n_safety,
        any_value(judge) as judge,
        any_value(reading) as reading
    from main.paper_scores
    group by all
)
select
    shown.origin, shown.paper_table, shown.language, shown.model, shown.size_class, shown.method, shown.dpo,
    wide.helpful, wide.clear, wide.factual, wide.depth, wide.engaging, wide.avg, wide.lang, wide.safe,
    case when shown.origin = 'ours' then coalesce(wide.n_multi, 0) + coalesce(wide.n_safety, 0) end as n_judged,
    shown.n_expected,
    wide.judge, wide.reading, shown.quantization, shown.settings_id
from shown
left join wide
    on wide.origin = shown.origin and wide.paper_table = coalesce(shown.paper_table, '')
    and wide.language = shown.language and wide.model = shown.model and wide.method = shown.method
    and wide.dpo = shown.dpo
order by
    shown.language <> 'en', shown.language, shown.size_class nulls last, shown.model,
    coalesce(list_position(['zero-shot', 'urial', 'instruct'], shown.method), 4), shown.method, shown.dpo;

comment on view main.paper_score_rows is
'One row an origin (ours, published), paper table and cell: the rows of Tables 1, 2 and 3 with scores side by side. n_judged responses have a score, n_expected should; a cell without any is there with empty scores. What is chosen where there are several is said at paper_scores.';
