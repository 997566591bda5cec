create or replace view main.table_2 as
select * exclude (origin, paper_table, size_class, dpo)
from main.paper_score_rows
where origin = main.shown_origin() and coalesce(paper_table, 'table_2') = 'table_2'
    and not dpo;

comment on view main.table_2 is
'Scores in every language, models without DPO: one row per language, model and method. avg is the mean of the five aspects before it; lang and safe are not part of it. judge, reading, quantization and settings_id name the one shown of several (see paper_scores).';
