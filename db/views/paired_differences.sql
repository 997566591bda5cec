create or replace view main.paired_differences as
with
answers as (
    select response_id, {'cell_id': cell_id, 'query_id': query_id, 'cluster': cluster} as answer
    from main.responses
    left join main.query_clusters using (query_key)
),
-- a language has a judge text of its own; there a template is compared with the most used one of its name
used as (
    select answers.answer.cell_id, judgment.judge_id, template.name, judgment.template_sha256
    from raw.judgments as judgment
    join answers on answers.response_id = judgment.response_id
    join raw.judge_templates as template on template.template_sha256 = judgment.template_sha256
    group by answers.answer.cell_id, judgment.judge_id, template.name, judgment.template_sha256
    qualify row_number() over (
        partition by answers.answer.cell_id, judgment.judge_id, template.name
        order by count(*) desc, judgment.template_sha256
    ) = 1
),
looked_up as (
    select
        -- a subquery, not a join: the small side becomes the hash table
        (select answer from answers where answers.response_id = verdict.response_id) as answer,
        verdict.judge_id, verdict.judge, verdict.template_sha256, verdict.template, verdict.reading,
        columns(main.metrics())
    from main.response_scores as verdict
),
sides as (
    select
        answer.cell_id, answer.query_id, answer.cluster, looked_up.judge_id, judge, looked_up.template_sha256,
        template, reading, columns(main.metrics()),
        used.template_sha256 is not null as is_used
    from looked_up
    left join used
        on used.cell_id = answer.cell_id and used.judge_id = looked_up.judge_id
        and used.template_sha256 = looked_up.template_sha256
    where answer is not null
),
clusters as (
    select
        pairs.differs_in, pairs.cell_id_a, pairs.cell_id_b, side_a.judge_id, side_a.template_sha256, side_a.reading,
        side_a.cluster,
        any_value(side_a.judge) as judge,
        any_value(side_a.template) as template,
        unnest(main.pair_sums(side_a, side_b))
    from main.cell_pairs as pairs
    join sides as side_a on side_a.cell_id = pairs.cell_id_a
    join sides as side_b
        on side_b.cell_id = pairs.cell_id_b and side_b.query_id = side_a.query_id
        and side_b.judge_id = side_a.judge_id and side_b.template = side_a.template
        and side_b.reading = side_a.reading
        and case
            when pairs.differs_in = 'language' then side_a.is_used and side_b.is_used
            else side_b.template_sha256 = side_a.template_sha256
        end
    group by
        pairs.differs_in, pairs.cell_id_a, pairs.cell_id_b, side_a.judge_id, side_a.template_sha256, side_a.reading,
        side_a.cluster
),
compared as (
    select
        differs_in, cell_id_a, cell_id_b, judge_id, template_sha256, reading,
        any_value(judge) as judge,
        any_value(template) as template,
        main.cluster_sums(columns(main.metrics()), cluster)
    from clusters
    group by differs_in, cell_id_a, cell_id_b, judge_id, template_sha256, reading
),
sums as (
    unpivot compared
    on columns(main.metrics())
    into name metric value sums
),
differences as (
    select
        differs_in, cell_id_a, cell_id_b, judge_id, judge, template_sha256, template, reading, metric,
        sums.a / sums.n as mean_a,
        sums.s / sums.n as difference,
        sqrt(main.centered(sums.n, sums.s, sums.q) / nullif(sums.n - 1, 0)) as sd,
        main.clustered_se(sums) as se,
        sums.n::bigint as n,
        (main.n_clusters(sums) - 1)::bigint as df
    from sums
    where sums.n > 0
),
tested as (
    select
        case
            when differs_in = 'method' and not pairs.dpo and pairs.language = 'en' then 'table_1'
            when differs_in = 'method' and not pairs.dpo then 'table_2'
            when differs_in = 'dpo' then 'table_3'
            else differs_in
        end as family,
        differences.*, pairs.* exclude (differs_in, cell_id_a, cell_id_b),
        main.difference_p(difference, se, n, df) as p
    from differences
    join main.cell_pairs as pairs using (differs_in, cell_id_a, cell_id_b)
),
ranked as (
    select
        *,
        count(p) filter (where unlike is null) over tests as n_tests,
        row_number() over (
            partition by family, judge_id, template, reading order by unlike is not null, p nulls last
        ) as place
    from tested
    window tests as (partition by family, judge_id, template, reading)
)
select
    differs_in, a, b, model, method, language, dpo, judge, reading, metric,
    mean_a,
    mean_a + difference as mean_b,
    difference,
    se,
    difference - main.difference_half(se, n, df) as ci_low,
    difference + main.difference_half(se, n, df) as ci_high,
    n,
    difference / nullif(sd, 0) as dz,
    template, quantization_a, quantization_b,
    difference / nullif(se, 0) as t,
    df, p, family,
    case when unlike is null and p is not null then
        least(1, max((n_tests - place + 1) * p) over (
            partition by family, judge_id, template, reading order by place
        ))
    end as p_holm,
    n_tests, unlike, in_paper_tables, dataset, cell_id_a, cell_id_b, template_sha256
from ranked;

comment on view main.paired_differences is
'One row per pair of cells that differ in one thing (see cell_pairs), judge, template, reading and metric, over the n queries that both have a score for: one response against one, scored with the same judge text (across languages: with the most used text of that name). Mean difference b - a, its paired standard error with queries of one text as one observation, the 95 % interval and two-sided p of Student''s t with df degrees of freedom, and the effect size dz (mean over standard deviation of the differences). p_holm is corrected by Holm over the n_tests of its family: table_1 (methods, English), table_2 (methods, other languages), table_3 (DPO), else differs_in, by judge, template and reading, over all metrics; NULL where the cells are unlike in more (unlike says in what).';
