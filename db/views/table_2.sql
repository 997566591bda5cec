create or replace view main.table_2 as
select * exclude (origin, paper_table, size_class, dpo)
from main.paper_score_rows
where origin = main.shown_origin() and coalesce(paper_table, 'table_2') = 'table_2'
    and not dpo;

comment on view main.table_2 is
'Scores in every language, models without DPO: one row a language, model and method. avg is the mean of the five aspects before it; lang and safe stand apart. judge, reading, quantization and settings_id say what is shown where there are several (see paper_scores).';
