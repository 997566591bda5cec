-- $1 data set or NULL. Review state of every language.
select
    dataset,
    language,
    count(*) as queries,
    count(*) filter (where status in ('accepted', 'edited')) as reviewed,
    count(*) filter (where status = 'edited') as edited,
    count(*) filter (where status = 'skipped') as skipped,
    count(*) filter (where best_severity > 0 and status = 'open') as open_flagged,
    count(*) filter (where best_severity >= 10 and status = 'open') as open_unusable
from main.translation_review
where $1 is null or dataset = $1
group by dataset, language
order by dataset, language
