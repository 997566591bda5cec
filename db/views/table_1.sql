create or replace view main.table_1 as
select
    model, method, helpful, clear, factual, depth, engaging, avg, lang, safe, n_judged, n_expected,
    judge, reading, quantization, settings_id
from main.paper_score_rows
where origin = coalesce(getvariable('icl_origin'), 'ours') and coalesce(paper_table, 'table_1') = 'table_1'
    and language = 'en' and not dpo;

comment on view main.table_1 is
'Scores in English, models without DPO: one row a model and method. avg is the mean of the five aspects before it; lang and safe stand apart. judge, reading, quantization and settings_id say what is shown where there are several (see paper_scores).';
