create or replace view main.outcome_tests as
with
outcomes as (
    select scores.cell_id, scores.query_id, scores.judge, scores.template, scores.metric, scores.score = 1 as holds
    from main.metric_scores as scores
    semi join (select * from main.metric_means where is_outcome) as means
        using (cell_id, judge_id, template_sha256, metric)
),
counts as (
    select
        pairs.differs_in, pairs.cell_id_a, pairs.cell_id_b, a.judge, a.template, a.metric,
        count(*) as n,
        count(*) filter (where a.holds) as n_a,
        count(*) filter (where b.holds) as n_b,
        count(*) filter (where a.holds and not b.holds) as only_a,
        count(*) filter (where b.holds and not a.holds) as only_b
    from main.cell_pairs as pairs
    join outcomes as a on a.cell_id = pairs.cell_id_a
    join outcomes as b
        on b.cell_id = pairs.cell_id_b and b.query_id = a.query_id and b.judge = a.judge
        and b.template = a.template and b.metric = a.metric
    group by all
),
tests as (
    select
        concat_ws(' / ', main.test_family(pairs, 'method', 'method', 'dpo'), counts.judge, counts.template) as family,
        counts.*, pairs.* exclude (differs_in, cell_id_a, cell_id_b),
        main.mcnemar_p(only_a, only_b) as p
    from counts
    join main.cell_pairs as pairs using (differs_in, cell_id_a, cell_id_b)
),
ranked as (
    select
        *,
        count(*) filter (where unlike is null) over (partition by family) as n_tests,
        main.holm_place(family, unlike is not null, p) as place
    from tests
)
select
    family, differs_in, a, b, model, method, language, dpo, judge, template, metric, n,
    n_a / n as rate_a,
    n_b / n as rate_b,
    (n_b - n_a) / n as difference,
    only_a, only_b, p,
    case when unlike is null then main.holm_p(family, place, n_tests, p) end as p_holm,
    n_tests, unlike, in_paper_tables, dataset, cell_id_a, cell_id_b
from ranked;

comment on view main.outcome_tests is
'One row per pair of cells that differ in one thing (see cell_pairs) and metric of 0 and 1, over the n queries that have it on both sides: McNemar''s exact test, two-sided, of only_b against only_a. p_holm is corrected by Holm over the n_tests of its family: what differs (parameters, for a method with parameters), judge and template; NULL where the cells are unlike in more (unlike says in what).';
