create or replace view main.published_token_shift as
select model, base_model, unshifted, marginal, shifted, source from raw.published_token_shift order by model;

comment on view main.published_token_shift is
'One row per published pair of a base and an aligned model: shares of unshifted (rank 1), marginal (2, 3) and shifted tokens in percent, of Just-Eval answers in English after the aligned model''s prompt (Lin et al., 2023).';
