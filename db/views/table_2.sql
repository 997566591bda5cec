create or replace view main.table_2 as
select * exclude (origin, paper_table, size_class, dpo)
from main.paper_score_rows
where origin = main.shown_origin() and coalesce(paper_table, 'table_2') = 'table_2'
    and not dpo;

comment on view main.table_2 is
'Scores in every language, models without DPO: one row per language, model and method. avg is over the responses that have all five aspects, aspects_mean is the mean of the five values of the row; lang and safe are part of neither. judge, reading, quantization and settings_id name the one shown of several (see paper_scores).';
