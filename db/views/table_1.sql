create or replace view main.table_1 as
select * exclude (origin, paper_table, language, size_class, dpo)
from main.paper_score_rows
where origin = main.shown_origin() and coalesce(paper_table, 'table_1') = 'table_1'
    and language = 'en' and not dpo;

comment on view main.table_1 is
'Scores in English, models without DPO: one row a model and method. avg is the mean of the five aspects before it; lang and safe stand apart. judge, reading, quantization and settings_id say what is shown where there are several (see paper_scores).';
