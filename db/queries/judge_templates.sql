-- Texts of the judge templates in use.
select template_sha256, text
from raw.judge_templates
