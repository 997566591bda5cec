create or replace view main.table_1 as
select * exclude (origin, paper_table, language, size_class, dpo)
from main.paper_score_rows
where origin = main.shown_origin() and coalesce(paper_table, 'table_1') = 'table_1'
    and language = 'en' and not dpo;

comment on view main.table_1 is
'Scores in English, models without DPO: one row per model and method. avg is over the responses that have all five aspects, aspects_mean is the mean of the five values of the row; lang and safe are part of neither. judge, reading, quantization and settings_id name the one shown of several (see paper_scores).';
