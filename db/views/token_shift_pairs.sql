create or replace view main.token_shift_pairs as
with
answer as (
    select
        cell_id, under_gguf_sha256, under_method, response_id,
        any_value(model) as model,
        any_value(quantization) as quantization,
        any_value(method) as method,
        any_value(language) as language,
        any_value(dpo) as dpo,
        any_value(dataset) as dataset,
        any_value(settings_id) as settings_id,
        any_value(query_id) as query_id,
        any_value(under_model) as under_model,
        any_value(under_quantization) as under_quantization,
        any_value(under_dpo) as under_dpo,
        count(*) as n,
        count(*) filter (where main.is_shifted(rank)) as shifted
    from main.token_positions
    where not is_end and under_method <> 'own'
    group by cell_id, under_gguf_sha256, under_method, response_id
),
pair as (
    select
        case
            when a.language <> b.language then 'language'
            when a.under_dpo <> b.under_dpo then 'under_dpo'
            else 'under_method'
        end as differs_in,
        a as one, b as other
    from answer as a
    inner join answer as b
        on b.model = a.model and b.quantization = a.quantization and b.method = a.method and b.dpo = a.dpo
        and b.dataset = a.dataset and b.settings_id = a.settings_id and b.query_id = a.query_id
        and b.under_model = a.under_model and b.under_quantization = a.under_quantization
        and (
            a.language = 'en' and b.language <> 'en' and b.under_method = a.under_method and b.under_dpo = a.under_dpo
            or a.response_id = b.response_id and b.under_method = a.under_method and not a.under_dpo and b.under_dpo
            or a.response_id = b.response_id and b.under_dpo = a.under_dpo
            and b.under_gguf_sha256 = a.under_gguf_sha256
            and (main.method_order(a.under_method), a.under_method) < (main.method_order(b.under_method), b.under_method)
        )
),
sums as (
    select
        differs_in,
        one.cell_id as cell_id_a, other.cell_id as cell_id_b, one.under_gguf_sha256 as under_gguf_sha256_a,
        other.under_gguf_sha256 as under_gguf_sha256_b, one.under_method as under_method_a,
        other.under_method as under_method_b,
        any_value(one) as a, any_value(other) as b,
        count(*) as n,
        sum(one.n) as m_a, sum(other.n) as m_b, sum(one.shifted) as s_a, sum(other.shifted) as s_b,
        list({'n_a': one.n, 'n_b': other.n, 's_a': one.shifted, 's_b': other.shifted}) as answers
    from pair
    group by all
),
estimate as (
    select
        *,
        s_b / m_b - s_a / m_a as difference,
        case when n > 1 then sqrt(n / (n - 1) * list_sum(list_transform(answers, lambda x: power(
            (x.s_b - s_b / m_b * x.n_b) / m_b - (x.s_a - s_a / m_a * x.n_a) / m_a, 2
        )))) end as se
    from sums
)
select
    differs_in,
    case differs_in when 'language' then a.language when 'under_dpo' then 'base' else under_method_a end as a,
    case differs_in when 'language' then b.language when 'under_dpo' then 'DPO' else under_method_b end as b,
    a.model as model, a.quantization as quantization, a.method as method, a.language as language, a.dpo as dpo,
    a.dataset as dataset, a.under_model as under_model, a.under_quantization as under_quantization,
    under_method_a as under_method, a.under_dpo as under_dpo,
    n,
    100.0 * s_a / m_a as shifted_a,
    100.0 * s_b / m_b as shifted_b,
    100.0 * difference as difference,
    100.0 * (difference - main.t_quantile(n - 1) * se) as ci_low,
    100.0 * (difference + main.t_quantile(n - 1) * se) as ci_high,
    a.settings_id as settings_id, cell_id_a, cell_id_b, under_gguf_sha256_a, under_gguf_sha256_b
from estimate;

comment on view main.token_shift_pairs is
'One row per pair of scorings of the same answers that differ in the prompt (under_method) or in DPO training of the weights (under_dpo), or of the answers to the same queries in English and another language (language). shifted_a and shifted_b are percentages of tokens over the n queries of both; the end token is left out. difference: b - a, with a 95 % interval over the pairs (the linearised ratios'' error, Student''s t); NULL for one pair. The other columns are those of a.';
