create or replace view main.instruments as
select
    main.instrument(judge.rowid, template.rowid) as instrument,
    judge.name as judge, template.name as template, judge.judge_id, template.template_sha256
from raw.judges as judge
cross join raw.judge_templates as template;

comment on view main.instruments is
'One row per judge and judge template, whether used or not: instrument is a number of the two, for joins; it holds until the database changes.';
