-- Candidates not yet scored against the final text of their query.
select translation_id, review_id, text, final_text
from main.translation_agreement
where chrf is null
order by translation_id
