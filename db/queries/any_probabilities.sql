-- a row if a judgment has probabilities of its scores
select 1 as found from raw.judgments where probabilities is not null limit 1
