create or replace view main.error_tests as
with
outcomes as (
    select cell_id, query_id, error, failed
    from main.response_errors
    where drawn_query is null or response_id in (
        select arg_min(response_id, [draw_seed, draw]) from raw.responses where draw is not null group by cell_id, query_key
    )
),
counts as (
    select
        pairs.differs_in, pairs.cell_id_a, pairs.cell_id_b, a.error,
        count(*) as n,
        count(*) filter (where a.failed) as n_a,
        count(*) filter (where b.failed) as n_b,
        count(*) filter (where a.failed and not b.failed) as only_a,
        count(*) filter (where b.failed and not a.failed) as only_b
    from main.cell_pairs as pairs
    join outcomes as a on a.cell_id = pairs.cell_id_a
    join outcomes as b
        on b.cell_id = pairs.cell_id_b and b.query_id = a.query_id and b.error = a.error
    group by pairs.differs_in, pairs.cell_id_a, pairs.cell_id_b, a.error
),
tests as (
    select
        differs_in, cell_id_a, cell_id_b, error, n, n_a, n_b, only_a, only_b,
        main.mcnemar_p(only_a, only_b) as p
    from counts
),
named as (
    select
        main.test_family(pairs, 'table_4', 'table_6', 'table_8') as family,
        differs_in, pairs.a, pairs.b, pairs.model, pairs.method, pairs.language, pairs.dpo,
        main.shown_error(tests.error) as error, tests.n, tests.n_a, tests.n_b, tests.only_a, tests.only_b, tests.p,
        pairs.quantization_a, pairs.quantization_b, pairs.unlike, pairs.in_paper_tables, pairs.dataset,
        cell_id_a, cell_id_b
    from tests
    join main.cell_pairs as pairs using (differs_in, cell_id_a, cell_id_b)
    where main.shown_error(tests.error) is not null
),
ranked as (
    select
        *,
        count(*) filter (where unlike is null) over (partition by family) as n_tests,
        main.holm_place(family, unlike is not null, p) as place
    from named
)
select
    family, differs_in, a, b, model, method, language, dpo, error, n,
    100.0 * n_a / n as percent_a,
    100.0 * n_b / n as percent_b,
    100.0 * (n_b - n_a) / n as difference,
    only_a, only_b, p,
    case when unlike is null then main.holm_p(family, place, n_tests, p) end as p_holm,
    n_tests, quantization_a, quantization_b, unlike, in_paper_tables, dataset, cell_id_a, cell_id_b
from ranked;

comment on view main.error_tests is
'One row per pair of cells that differ in one thing (see cell_pairs) and error, over the n queries that both answered, the first draw of each: loops by the variable icl_loops; McNemar''s exact test, two-sided, of only_b against only_a, the queries where one of the two alone has the error. p_holm is corrected by Holm over the n_tests of its family: table_4 (methods in English), table_6 (methods in other languages), table_8 (without and with DPO), parameters (a method with parameters), else differs_in; NULL where the cells are unlike in more (unlike says in what).';
