create or replace view main.paired_differences as
with
-- a query has a row in each language
asked as (
    select rowid as query, min(rowid) over (partition by dataset, query_id) as number from raw.queries
),
scores as (
    select cell, asked.number, cluster, instrument, reading, columns(main.metrics())
    from main.query_scores
    join asked using (query)
),
counts as (
    select cell, instrument, count(*) as n from scores where reading = 'strict' group by cell, instrument
),
-- a language has a judge text of its own; there a template is compared with the most used one of its name
used as (
    select
        cell.cell_id, counts.cell, instruments.instrument, instruments.judge_id, instruments.template,
        row_number() over (
            partition by counts.cell, instruments.judge_id, instruments.template
            order by counts.n desc, instruments.template_sha256
        ) = 1 as is_most_used
    from counts
    join main.instruments as instruments on instruments.instrument = counts.instrument
    join raw.cells as cell on cell.rowid = counts.cell
),
matches as (
    select
        row_number() over () as match, pairs.differs_in, pairs.cell_id_a, pairs.cell_id_b,
        a.cell as cell_a, b.cell as cell_b, a.instrument as instrument_a, b.instrument as instrument_b
    from main.cell_pairs as pairs
    join used as a on a.cell_id = pairs.cell_id_a
    join used as b on b.cell_id = pairs.cell_id_b and b.judge_id = a.judge_id and b.template = a.template
    where case
        when pairs.differs_in = 'language' then a.is_most_used and b.is_most_used else a.instrument = b.instrument
    end
),
clusters as (
    select matches.match, side_a.reading, side_a.cluster, unnest(main.pair_sums(side_a, side_b))
    from matches
    join scores as side_a on side_a.cell = matches.cell_a and side_a.instrument = matches.instrument_a
    join scores as side_b
        on side_b.cell = matches.cell_b and side_b.instrument = matches.instrument_b
        and side_b.number = side_a.number and side_b.reading = side_a.reading
    group by matches.match, side_a.reading, side_a.cluster
),
compared as (
    select match, reading, main.cluster_sums(columns(main.metrics()), cluster)
    from clusters
    group by match, reading
),
sums as (
    unpivot compared
    on columns(main.metrics())
    into name metric value sums
),
differences as (
    select match, reading, metric, unnest(main.moments(sums))
    from sums
    where sums.n > 0
),
tested as (
    select
        main.test_family(pairs, 'table_1', 'table_2', 'table_3') as family,
        pairs.*, instruments.*, differences.*, instruments_b.template_sha256 as template_sha256_b,
        main.difference_p(differences.mean, differences.se, differences.n, differences.df) as p
    from differences
    join matches using (match)
    join main.cell_pairs as pairs using (differs_in, cell_id_a, cell_id_b)
    join main.instruments as instruments on instruments.instrument = matches.instrument_a
    join main.instruments as instruments_b on instruments_b.instrument = matches.instrument_b
),
ranked as (
    select
        *,
        {'family': family, 'judge_id': judge_id, 'template': template, 'reading': reading} as tests,
        count(p) filter (where unlike is null) over (partition by tests) as n_tests,
        main.holm_place(tests, unlike is not null, p) as place
    from tested
)
select
    differs_in, a, b, model, method, language, dpo, judge, reading, metric,
    mean_a,
    mean_a + mean as mean_b,
    mean as difference,
    se,
    mean - main.difference_half(se, n, df) as ci_low,
    mean + main.difference_half(se, n, df) as ci_high,
    n,
    mean / nullif(sd, 0) as dz,
    template, quantization_a, quantization_b,
    mean / nullif(se, 0) as t,
    df, p, family,
    case when unlike is null and p is not null then main.holm_p(tests, place, n_tests, p) end as p_holm,
    n_tests, unlike, in_paper_tables, dataset, cell_id_a, cell_id_b, template_sha256,
    judge_id, template_sha256_b
from ranked;

comment on view main.paired_differences is
'One row per pair of cells that differ in one thing (see cell_pairs), judge, template, reading and metric, over the n queries that both have a score for: one response against one, scored with the same judge text (across languages: with the text of that name by which most queries of the cell are scored). Mean difference b - a, its paired standard error with queries of one text as one observation, the 95 % interval and two-sided p of Student''s t with df degrees of freedom, and the effect size dz (mean over standard deviation of the differences). p_holm is corrected by Holm over the n_tests of its family: table_1 (methods, English), table_2 (methods, other languages), table_3 (DPO), parameters (a method with parameters), else differs_in, by judge, template and reading, over all metrics; NULL where the cells are unlike in more (unlike says in what). template_sha256 and template_sha256_b: judge text of a and of b.';
