-- the judge and the reference that the views' variables name
select getvariable('icl_judge') as judge, main.shown_reference() as reference
