create or replace view main.instruments as
select
    main.instrument(judge.rowid, template.rowid) as instrument,
    judge.judge_id, judge.name as judge, template.template_sha256, template.name as template
from raw.judges as judge
cross join raw.judge_templates as template;

comment on view main.instruments is
'One row per judge and judge template, whether used or not: instrument is a number of the two, for joins; it holds until the database changes.';
