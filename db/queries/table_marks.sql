-- cells of Tables 1 to 8 that differ from what they are read against: from zero-shot (Tables 1, 2, 4, 6) or from
-- themselves without DPO (Tables 3, 8); scores by the interval of the paired difference, errors by p_holm
with
scores as (
    select distinct metric, template, judge, reading from main.paper_scores where origin = 'ours'
),
scored as (
    select
        pair.differs_in,
        pair.language, pair.model, if(pair.differs_in = 'method', pair.b, pair.method) as method,
        pair.differs_in = 'dpo' as dpo, pair.metric
    from main.paired_differences as pair
    join scores using (metric, template, judge, reading)
    where
        (pair.differs_in = 'dpo' or (pair.differs_in = 'method' and pair.a = 'zero-shot' and not pair.dpo))
        and (pair.ci_low > 0 or pair.ci_high < 0)
),
failed as (
    select
        differs_in, language, model, if(differs_in = 'method', b, method) as method, differs_in = 'dpo' as dpo,
        error as metric
    from main.error_tests
    where
        (differs_in = 'dpo' or (differs_in = 'method' and a = 'zero-shot' and not dpo))
        and p_holm < 0.05
)
select differs_in, language, model, method, dpo, metric from scored
union
select differs_in, language, model, method, dpo, metric from failed
