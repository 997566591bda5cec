-- $1: most rows. Answers that were scored under a prompt other than their own file's, by query.
select distinct
    scoring_id,
    concat_ws(
        ' · ', dataset || ' ' || query_id, language, concat_ws(' ', main.with_dpo(model, dpo), method),
        concat_ws(' ', 'under', main.with_dpo(under_model, under_dpo), under_method)
    ) as label
from main.token_positions
where under_method <> 'own' and position = 1
order by label, scoring_id
limit $1
