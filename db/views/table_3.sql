create or replace view main.table_3 as
select * exclude (origin, paper_table, size_class)
from main.paper_score_rows
where origin = main.shown_origin() and coalesce(paper_table, 'table_3') = 'table_3';

comment on view main.table_3 is
'Scores without and with DPO: one row per language, model, method and dpo. avg is over the responses that have all five aspects, aspects_mean is the mean of the five values of the row; lang and safe are part of neither. judge, reading, quantization and settings_id name the one shown of several (see paper_scores).';
