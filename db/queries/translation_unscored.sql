-- Candidates whose query has a final text that they were not scored against.
select translation_id, review_id, text, final_text
from main.translation_agreement
where chrf is null
order by translation_id
