-- lowest and highest mean of the systems that a map was made from, on the scale of the judge it is from
alter table raw.equatings add column mean_low double;
alter table raw.equatings add column mean_high double;
