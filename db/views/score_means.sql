create or replace view main.score_means as
with
answers as (
    select response_id, cell_id from main.responses where main.answered(finish_reason)
),
given as (
    select
        -- a subquery, not a join: the small side becomes the hash table, and verdicts stream past it
        (select cell_id from answers where answers.response_id = verdict.response_id) as cell_id,
        verdict.judge_id, verdict.template_sha256, verdict.reading,
        any_value(verdict.judge) as judge,
        any_value(verdict.template) as template,
        main.moment(columns(main.metrics()))
    from main.response_scores as verdict
    group by cell_id, verdict.judge_id, verdict.template_sha256, verdict.reading
),
moments as (
    unpivot given
    on columns(main.metrics())
    into name metric value moment
)
select
    cells.model, cells.quantization, cells.method, cells.language, cells.dpo, cells.settings_id, cells.dataset,
    moments.judge, moments.reading, moments.metric,
    moments.moment.mean as mean,
    moments.moment.sd as sd,
    moments.moment.sd / sqrt(moments.moment.n) as se,
    moments.moment.mean - 1.959964 * moments.moment.sd / sqrt(moments.moment.n) as ci_low,
    moments.moment.mean + 1.959964 * moments.moment.sd / sqrt(moments.moment.n) as ci_high,
    moments.moment.n as n,
    case when moments.metric = 'safety' then cells.n_safety else cells.n_multi end as n_expected,
    moments.template, moments.judge_id, moments.template_sha256,
    cells.size_class, cells.in_paper_tables, moments.cell_id
from moments
join main.cells as cells on cells.cell_id = moments.cell_id
where moments.moment.n > 0;

comment on view main.score_means is
'One row a cell (see cells), judge, template, reading and metric: mean, standard deviation (n - 1), standard error, and the interval mean -+ z * se with z = 1.959964. n responses have that score, n_expected should. metric avg is the mean over responses that have all five aspects. in_paper_tables, cell_id: see cells.';
