-- Bars of the figure shift: our cells of answers under every prompt but their own, and the published shares. With
-- icl_origin published no bars of ours; the published ones stand beside ours or alone.
with
ours as (
    select
        case when count(distinct (model, method, dpo, under_model)) over () > 1
            then concat_ws(' ', main.with_dpo(model, dpo), method, 'under', under_model) || ' · ' else ''
        end || concat_ws(' · ', language, under_method, case when under_dpo then 'DPO' end) as label,
        unshifted, marginal, shifted, false as published, cell_id, under_gguf_sha256, under_method, language, under_dpo,
        1 as place
    from main.token_shift
    where reading = 'all' and under_method <> 'own' and main.shown_origin() = 'ours'
),
bars as (
    select * from ours
    union all by name
    select model || ' (published)' as label, unshifted, marginal, shifted, true as published, 2 as place
    from main.published_token_shift
    where main.shown_origin() = 'published' or exists (select 1 from ours)
)
select label, unshifted, marginal, shifted, published, cell_id, under_gguf_sha256, under_method
from bars
order by place, language, under_dpo, main.scoring_order(under_method), label
