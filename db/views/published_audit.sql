create or replace view main.published_audit as
with
aspects as (
    select paper_table, language, model, method, dpo, avg(published) as recomputed
    from main.published_scores
    where list_contains(main.aspects(), metric)
    group by paper_table, language, model, method, dpo
),
averages as (
    select
        'average does not fit' as finding, printed.paper_table as place, printed.language, printed.model,
        printed.method, printed.dpo, printed.metric, printed.published as printed, aspects.recomputed,
        'the five aspects beside it average to ' || printf('%.2f', aspects.recomputed) as note
    from main.published_scores as printed
    join aspects using (paper_table, language, model, method, dpo)
    where printed.metric = 'avg' and abs(printed.published - aspects.recomputed) > 0.011
),
scale as (
    select
        'outside 1 to 5', paper_table, language, model, method, dpo, metric, published, null::double,
        'scores run from 1 to 5'
    from main.published_scores
    where published not between 1 and 5
),
printed_cells as (
    select paper_table, language, model, method, dpo, metric, published from main.published_scores
    union all
    select paper_table, language, model, method, dpo, error, published_percent from main.published_errors
),
tables_differ as (
    select
        'tables differ', later.paper_table, later.language, later.model, later.method, later.dpo, later.metric,
        later.published, earlier.published,
        'Table ' || right(earlier.paper_table, 1) || ' prints ' || printf('%.2f', earlier.published)
    from printed_cells as later
    join printed_cells as earlier using (language, model, method, dpo, metric)
    where earlier.paper_table < later.paper_table and earlier.published <> later.published
),
languages as (
    select
        paper_table, language, model, method, dpo,
        list(published order by metric) as row_values
    from main.published_scores
    where list_contains(main.aspects(), metric)
    group by paper_table, language, model, method, dpo
),
repeated as (
    select
        'row repeated', one.paper_table, one.language, one.model, one.method, one.dpo, null::varchar, null::double,
        null::double, 'all five aspects equal those of ' || other.language
    from languages as one
    join languages as other using (paper_table, model, method, dpo, row_values)
    where (one.language = 'en') > (other.language = 'en') or (other.language <> 'en' and one.language < other.language)
),
names as (
    select distinct
        'model name', paper_table, language, model, null::varchar, null::boolean, null::varchar, null::double,
        null::double, 'printed as ' || model_printed
    from (
        select paper_table, language, model, model_printed from main.published_scores
        union all
        select paper_table, language, model, model_printed from main.published_errors
    )
    where model <> model_printed
),
shares as (
    select
        'no share of 1,000', paper_table, language, model, method, dpo, error, published_percent,
        round(published_percent, 1), 'no whole number of 1,000 responses gives it'
    from main.published_errors
    where abs(published_percent * 10 - round(published_percent * 10)) > 1e-6
),
sentences as (
    select
        'sentence', 'section ' || section, null::varchar, null::varchar, null::varchar, null::boolean, metric, printed,
        value,
        statement || ' (' || case when claim = 'equals' then printf('%.3g', printed) else claim end || '): '
            || coalesce(slip, 'the cells give ' || printf('%.2f', value))
    from main.text_statistics
    where origin = 'published' and not agrees
),
findings as (
    select * from averages
    union all select * from scale
    union all select * from tables_differ
    union all select * from repeated
    union all select * from names
    union all select * from shares
    union all select * from sentences
)
select finding, place, language, model, method, dpo, metric, printed, recomputed, note
from findings
order by finding, place, language, model, method, metric;

comment on view main.published_audit is
'One row per slip in the paper''s figures (see published_scores.paper_version), found by recomputation: averages that do not fit (0.011 is allowed, printed figures are rounded), values outside 1 to 5, cells that two tables print differently, a repeated row, a wrong model name, rates that are not a share of 1,000, and sentences that the tables contradict.';
