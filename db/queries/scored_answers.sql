-- $1: most rows. Answers that were scored under a prompt other than their own file's, by query.
select distinct
    scoring_id,
    concat_ws(
        ' · ', dataset || ' ' || query_id, language, concat_ws(' ', model, case when dpo then 'DPO' end, method),
        concat_ws(' ', 'under', under_model, case when under_dpo then 'DPO' end, under_method)
    ) as label
from main.token_positions
where under_method <> 'own' and position = 1
order by label, scoring_id
limit $1
