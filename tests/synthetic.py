"""A synthetic study: the paper's 29 cells with generated answers whose score means lie near the published ones.

Written straight into DuckDB, reproducible from ``seed``: every draw is a hash of its purpose. Half of the
queries have the same draw in every cell, so that paired tests find differences. Verdicts have the gaps of real
ones: N/A, a missing aspect, an answer without verdict.
"""

from __future__ import annotations

import argparse
import functools
from pathlib import Path

import duckdb

from icl_local.store import ingest
from icl_local.store.database import Store

WORDS = (
    "a the of and to in is that it for as with on by this from at or an be are which can may when how small large "
    "model answer question reason example step list first second third because therefore however history music "
    "water light energy people city language write read learn simple careful honest helpful describe compare "
    "result number value table figure method paper study test"
)

CELLS = """
create temp table cell as
with
canonical as (
    select language, model, method, dpo, metric, arg_min(published, paper_table) as truth
    from raw.published_scores where metric <> 'avg' and published <= 5
    group by all
),
truths as (select language, model, method, dpo, map_from_entries(list((metric, truth))) as truth
           from canonical group by all),
errors as (
    select language, model, method, dpo, map_from_entries(list((error, percent / 100.0))) as rate
    from (select language, model, method, dpo, error, arg_min(published_percent, paper_table) as percent
          from raw.published_errors group by all)
    group by all
),
known as (select * from truths join errors using (language, model, method, dpo)),
files as (
    select *, 'Q4_K_M' as quantization from known
    union all
    select *, 'Q8_0' from known where model = 'Llama3.2 1B' and method = 'urial' and not dpo
)
select *,
    row_number() over (order by model, language, method, dpo, quantization) as cell,
    if(method = 'instruct', 'instruct', 'base') as variant,
    md5(concat_ws('|', model, if(method = 'instruct', 'instruct', 'base'), dpo)) as model_id,
    md5(concat_ws('|', model, if(method = 'instruct', 'instruct', 'base'), dpo, quantization)) as gguf_sha256,
    case split_part(model, ' ', 2) when '8B' then 8030261312 when '9B' then 9154000000
        when '1B' then 1235814400 else 1657000000 end as parameters
from files;

create temp table query as
select
    i::varchar as query_id, language, i >= $queries * 0.8 as safety,
    md5(concat_ws('|', 'q', i, language)) as query_key
from range($queries) as t(i) cross join (values ('en'), ('es'), ('fr')) as l(language);

insert into raw.models
select distinct model_id, model, variant, dpo, parameters, if(parameters < 2e9, 'small', 'medium'), null from cell;

insert into raw.gguf_files by name
select distinct gguf_sha256, replace(model, ' ', '-') || '.' || quantization || '.gguf' as file_name,
    'file' as source, parameters // 2 as bytes, 'llama' as architecture, quantization, parameters
from cell;

insert into raw.datasets values ('just-eval', 'synthetic', null, timestamp '2026-11-01');

insert into raw.queries
select query_key, 'just-eval', query_id, language, if(safety, 'safety', 'multi'),
    if(safety, [], case query_id::int % 16
        when 7 then ['coding'] when 3 then ['procedure', 'info-seek'] when 5 then ['reasoning', 'math']
        when 11 then ['writing', 'role-play'] else ['info-seek'] end),
    if(safety, [], case query_id::int % 5 when 0 then ['stem'] when 1 then ['humanities', 'ethics']
        when 2 then ['lifestyle'] when 3 then ['medical'] else ['finance'] end),
    case query_id::int % 4 when 0 then 'helpful_base' when 1 then 'koala' when 2 then 'lima' else 'mt' end,
    case query_id::int % 3 when 0 then 'easy' when 1 then 'medium' else 'hard' end,
    'Query ' || query_id || ' (' || language || '): ' || case language
        when 'es' then '¿Cómo se hace esto?' when 'fr' then 'Comment fait-on ?' else 'How is this done?' end,
    null
from query;

insert into raw.prompts (prompt_id, method, language, head, tail, stops)
select distinct md5(concat_ws('|', 'p', method, language)), method, language, '# Query:', '# Answer:', ['# Query']
from cell;

insert into raw.settings by name
select 'synthetic' as settings_id, 'llama.cpp' as backend, 1.1 as repetition_penalty,
    'transformers' as penalty_rule, 1024 as max_tokens, 'f16' as kv_type, false as stop_on_loop;

insert into raw.runs by name
select 'synthetic-run' as run_id, 'study' as command, '0.1.0' as version, timestamp '2026-11-01' as started_at,
    $seed as seed, 'b0000' as llama_build, 'AVX2' as cpu_features, 2 as n_threads, '2 cores, 16 GB' as host;

insert into raw.run_cells by name
select md5(concat_ws('|', 'c', cell)) as run_cell_id, 'synthetic-run' as run_id, model_id, gguf_sha256, method,
    language, 'synthetic' as settings_id, 'done' as status, $queries as n_wanted, $queries as n_done, 8 as n_parallel,
    true as exact, 150 * $queries as new_tokens, 900 * $queries as prompt_tokens, 40 * $queries as prefilled_tokens,
    5.0 * $queries as wall_seconds, timestamp '2026-11-02' as ended_at
from cell;

create temp table answer as
with drawn as (
    select cell.*, query.query_id, query.query_key, query.safety,
        md5(concat_ws('|', 'r', cell.cell, query.query_id)) as response_id,
        hash($seed, query.query_id, 'length', if(hash(query.query_id) % 2 = 0, 0, cell.cell)) as luck
    from cell join query on query.language = cell.language
)
select * exclude (truth, rate), truth, rate,
    (luck % (2 * $words + 1)::ubigint)::integer as n_words,
    hash($seed, response_id, 'loop') / 18446744073709551616.0 < rate['infinite_loop'] as loops,
    hash($seed, response_id, 'code') / 18446744073709551616.0 < rate['unintended_code'] as codes
from drawn;

insert into raw.responses by name
with said as (
    select *, array_to_string(list_transform(range(n_words), lambda i:
        $vocabulary[1 + (hash(luck, i) % len($vocabulary)::ubigint)::integer]), ' ') as body
    from answer
),
written as (
    select *, body
        || if(codes, chr(10) || '```python' || chr(10) || 'print("hello")' || chr(10) || '```', '')
        || if(loops, chr(10) || repeat('Thank you very much. ', 40), '') as text
    from said
)
select response_id, model_id, gguf_sha256, query_key, md5(concat_ws('|', 'p', method, language)) as prompt_id,
    'synthetic' as settings_id, 'synthetic-run' as run_id, method, language, text, text as raw_text,
    if(loops, 'length', 'stop') as finish_reason, 900 as prompt_tokens, n_words + 4 as new_tokens, true as exact,
    language as text_language, timestamp '2026-11-02' + to_seconds(query_id::int) as created_at
from written;

insert into raw.critical_errors by name
select response_id, error, if(error = 'unintended_code', codes, loops) as found, '1.0.0' as detector_version,
    case when not loops or error = 'unintended_code' then null
        else text_length - 840 end as start_char,
    if(loops and error <> 'unintended_code', 'Thank you very much. ', null) as unit,
    if(loops and error <> 'unintended_code', 40.0, null) as copies,
    if(loops and error <> 'unintended_code', 840, null) as span,
    if(loops and error <> 'unintended_code', true, null) as reaches_end,
    if(codes and error = 'unintended_code', 'fenced', null) as kind
from (select answer.*, length(r.text) as text_length from answer join raw.responses as r using (response_id))
cross join (values ('infinite_loop'), ('infinite_loop_literal'), ('unintended_code')) as e(error);

insert into raw.judges values ('judge-1', 'openai:synthetic-judge', 'openai', 'synthetic-judge', null, null, '{}');

insert into raw.judge_templates
select md5(concat_ws('|', 't', split, language)), split, language, 'Score this.',
    case split when 'safety' then ['safety'] when 'multi' then
        ['helpfulness', 'clarity', 'factuality', 'depth', 'engagement'] || if(language = 'en', [], ['language']) end
from (values ('multi'), ('safety')) as s(split) cross join (values ('en'), ('es'), ('fr')) as l(language);

insert into raw.judgments by name
with asked as (
    select response_id, cell, query_id, truth, safety, language,
        md5(concat_ws('|', 't', if(safety, 'safety', 'multi'), language)) as template_sha256
    from answer
),
drawn as (
    select asked.response_id, position, metric, template_sha256, truth[metric] as truth,
        hash($seed, query_id, metric, if(hash(query_id) % 2 = 0, 0, cell)) / 18446744073709551616.0 as luck,
        hash($seed, response_id, metric, 'spread') % 10 as spread,
        metric = 'factuality' and hash($seed, response_id, 'na') % 100 = 0 as not_applicable,
        metric = 'depth' and hash($seed, response_id, 'none') % 300 = 0 as missing,
        hash($seed, response_id, 'hole') % 200 = 0 as hole
    from asked
    join (
        select template_sha256, unnest(metrics) as metric, unnest(range(len(metrics))) as position
        from raw.judge_templates
    ) using (template_sha256)
)
select md5('j' || response_id) as judgment_id, 1 as attempt, response_id, 'judge-1' as judge_id, template_sha256,
    0 as repeat, if(hole, 'parse_error', 'ok') as status, timestamp '2026-11-03' as created_at,
    list(if(hole or not_applicable or missing, null, greatest(1, least(5,
        floor(truth + luck) + case when spread = 0 then -1 when spread = 1 then 1 else 0 end)))
        order by position) as scores,
    list(not_applicable and not hole order by position) as not_applicable,
    list(if(hole, null, if(not_applicable, 'Not applicable.', 'The answer is what it is.')) order by position)
        as reasons
from drawn
group by response_id, template_sha256, hole;

checkpoint;
"""


# five rule scores beside the verdicts of each answer
RULES = """
insert into raw.judges values ('rules', 'rules', 'rules', 'rules', null, null, '{}');
insert into raw.judge_templates values ('rules', 'rules', null, 'Rules.',
    ['exact_match', 'contains', 'numeric', 'choice', 'language_match']);

insert into raw.judgments by name
select md5('rules' || response_id) as judgment_id, 1 as attempt, response_id, 'rules' as judge_id,
    'rules' as template_sha256, 0 as repeat, 'ok' as status, timestamp '2026-11-04' as created_at,
    list_transform(range(5), lambda rule: (hash(response_id, rule) % 2)::double) as scores,
    [false, false, false, false, false] as not_applicable
from raw.responses;

checkpoint;
"""


# what real databases also hold: repeats, a verdict made twice, a second judge and template, other settings for a part,
# a prompt that was too long, a cell without judgments, a query without a known task
COMPLICATIONS = """
create temp table verdict as
select judgment.*, metrics
from raw.judgments as judgment join raw.judge_templates using (template_sha256)
where status = 'ok';

insert into raw.judgments by name
select * exclude (metrics) replace (2 as attempt, 'repaired' as status,
    list_transform(metrics, lambda m: 1 + (hash(judgment_id, m) % 5)::double) as scores)
from verdict where hash(judgment_id) % 17 = 0;

insert into raw.judgments by name
select * exclude (metrics) replace ('again' || judgment_id as judgment_id, 1 as repeat,
    list_transform(metrics, lambda m: 1 + (hash(judgment_id, m, 1) % 5)::double) as scores)
from verdict where hash(judgment_id) % 13 = 0;

insert into raw.judges values ('judge-2', 'local:second.gguf', 'local', 'second.gguf', null, null, '{}');
insert into raw.judge_templates values ('other', 'multi.rubric-first', 'en', 'Rubric first.',
    ['depth', 'helpfulness', 'clarity', 'factuality', 'engagement']);

insert into raw.judgments by name
select * exclude (metrics) replace ('second' || judgment_id as judgment_id, 'judge-2' as judge_id,
    list_transform(metrics, lambda m: 1 + (hash(judgment_id, m, 2) % 5)::double) as scores)
from verdict where hash(judgment_id) % 3 = 0;

insert into raw.judgments by name
select * exclude (metrics) replace ('other' || judgment_id as judgment_id, 'other' as template_sha256,
    list_transform(metrics, lambda m: 1 + (hash(judgment_id, m, 3) % 5)::double) as scores)
from verdict
where hash(judgment_id) % 4 = 0 and template_sha256 in (
    select template_sha256 from raw.judge_templates where name = 'multi' and language = 'en');

insert into raw.settings by name select * replace ('short' as settings_id, 96 as max_tokens) from raw.settings;

insert into raw.responses by name
select * replace ('short' || response_id as response_id, 'short' as settings_id) from raw.responses
where hash(response_id) % 3 = 0;

insert into raw.critical_errors by name
select * replace ('short' || response_id as response_id) from raw.critical_errors
where 'short' || response_id in (select response_id from raw.responses);

update raw.responses set finish_reason = 'prompt_too_long', text = '', raw_text = ''
where hash(response_id, 'long') % 50 = 0;

delete from raw.judgments where response_id in (
    select response_id from raw.responses
    where finish_reason = 'prompt_too_long' or (language = 'fr' and method = 'urial'));

update raw.queries set task = null where hash(query_id) % 11 = 0;
"""


def build(
    path: Path, *, queries: int = 1000, words: int = 60, seed: int = 1, complicated: bool = False, rules: bool = False
) -> Path:
    """Build the study as a database at ``path``: 29 cells and one in a second GGUF type, ``queries`` each.

    A fifth of the queries are safety; answers have 0 to 2 ``words`` words. 1,000 queries take a few seconds.
    ``complicated`` adds several settings, judges and data sets, see COMPLICATIONS; ``rules`` adds five
    rule scores an answer.
    """
    with Store(path):
        pass
    with duckdb.connect(str(path)) as con:
        values = {"queries": queries, "words": words, "seed": seed, "vocabulary": WORDS.split()}
        for statement in duckdb.extract_statements(CELLS + COMPLICATIONS * complicated + RULES * rules):
            named = {name: values[name] for name in statement.named_parameters}
            con.execute(statement, named)
        ingest.name_cells(con)
    return path


@functools.cache
def made(queries: int = 1000, words: int = 60, complicated: bool = False) -> Path:
    """Return the database of ``build``, made once a session, for reading only."""
    from tests import shared

    name = f"study-{queries}-{words}" + "-complicated" * complicated

    def build_in(folder: Path) -> None:
        build(folder / "study.duckdb", queries=queries, words=words, complicated=complicated)

    return shared.built_once(name, build_in) / "study.duckdb"


def study() -> Path:
    """Return the study of 1,000 queries per cell."""
    return made()


def small() -> Path:
    """Return a complicated study of 60 queries per cell."""
    return made(60, 8, True)


def main() -> None:
    """Run the command line of scripts/synthetic."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("database", type=Path, help="file to make; it must not exist")
    parser.add_argument("--queries", type=int, default=1000, help="a cell; 74000 give ten million scores")
    parser.add_argument("--words", type=int, default=60, help="mean length of an answer")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rules", action="store_true", help="five rule scores an answer beside the judge's")
    wanted = parser.parse_args()
    if wanted.database.exists():
        parser.error(f"{wanted.database} exists")
    build(wanted.database, queries=wanted.queries, words=wanted.words, seed=wanted.seed, rules=wanted.rules)


if __name__ == "__main__":
    main()
