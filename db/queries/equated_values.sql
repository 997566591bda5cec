-- equated means of the cells that the tables show, with the template that has most scores there
select equated.*
from main.equated_means as equated
join main.paper_scores as shown
    on shown.origin = 'ours' and shown.cell_id = equated.cell_id and shown.judge_id = equated.judge_id
    and shown.template_sha256 = equated.template_sha256 and shown.metric = equated.metric
where equated.to_judge = $1
qualify row_number() over (
    partition by equated.cell_id, equated.metric order by equated.created_at desc, equated.to_template, equated.map
) = 1
