-- What variance_components says of the chosen judge; of a judge of the study the means, not every aspect.
select *
from main.variance_components
where judge = coalesce(getvariable('icl_judge'), judge) and not list_contains(main.aspects(), metric)
