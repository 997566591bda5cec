create or replace view main.quantization_effect as
with
scores as (
    select
        model, method, language, dpo, quantization_a, quantization_b, judge, reading, metric, mean_a, mean_b,
        difference, ci_low, ci_high, p_holm, n
    from main.paired_differences
    where differs_in = 'quantization'
),
errors as (
    select
        model, method, language, dpo, quantization_a, quantization_b, null::varchar as judge,
        null::varchar as reading, error as metric, percent_a, percent_b, difference, null::double as ci_low,
        null::double as ci_high, p_holm, n
    from main.error_tests
    where differs_in = 'quantization'
),
answers as (
    select
        cell_id, query_id, md5(text) as text
    from main.responses
    where main.answered(finish_reason)
),
same as (
    select
        pairs.model, pairs.method, pairs.language, pairs.dpo, pairs.quantization_a, pairs.quantization_b,
        null::varchar as judge, null::varchar as reading, 'same_text' as metric,
        100.0::double as mean_a, 100.0 * avg((a.text = b.text)::integer) as mean_b,
        100.0 * avg((a.text = b.text)::integer) - 100 as difference,
        null::double as ci_low, null::double as ci_high, null::double as p_holm, count(*) as n
    from main.cell_pairs as pairs
    join answers as a on a.cell_id = pairs.cell_id_a
    join answers as b on b.cell_id = pairs.cell_id_b and b.query_id = a.query_id
    where pairs.differs_in = 'quantization'
    group by
        pairs.model, pairs.method, pairs.language, pairs.dpo, pairs.quantization_a, pairs.quantization_b
),
effects as (
    select * from scores
    union all
    select * from errors
    union all
    select * from same
)
select
    model, method, language, dpo, quantization_a, quantization_b, judge, reading, metric, mean_a, mean_b, difference,
    ci_low, ci_high, p_holm, n
from effects
order by model, method, language, dpo, quantization_a, quantization_b, judge nulls first, reading, metric;

comment on view main.quantization_effect is
'One row per model, method, language, dpo, pair of GGUF types and metric over the same queries: score means with the interval of the paired difference b - a (see paired_differences), infinite_loop and unintended_code in percent with McNemar''s test (see error_tests), and same_text, the percent of identical answers. a is the type with more bits.';
