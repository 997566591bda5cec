-- comparisons of shown cells that carry no mark, and why
select
    differs_in, language, model, case when differs_in = 'method' then b else method end as method,
    differs_in = 'dpo' as dpo, a, b, unlike
from main.cell_pairs
where
    unlike is not null and in_paper_tables
    and (differs_in = 'dpo' or (differs_in = 'method' and a = 'zero-shot' and not dpo))
order by all
