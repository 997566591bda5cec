-- What method_effects says of the chosen judge and reading; of a judge of the study the means, not every aspect.
select *
from main.method_effects
where reading = coalesce(getvariable('icl_reading'), 'strict')
    and judge = coalesce(getvariable('icl_judge'), judge)
    and not list_contains(main.aspects(), metric)
