-- corrected means of the cells, judge, template and reading that the tables show; of several samples, the most labels
select corrected.*
from main.corrected_means as corrected
join main.paper_scores as shown
    on shown.origin = 'ours' and shown.cell_id = corrected.cell_id and shown.judge_id = corrected.judge_id
    and shown.template_sha256 = corrected.template_sha256 and shown.reading = corrected.reading
    and shown.metric = corrected.metric
qualify row_number() over (
    partition by corrected.cell_id, corrected.metric
    order by corrected.n desc, corrected.sample, corrected.reference_template
) = 1
