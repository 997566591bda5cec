create or replace view main.cell_pairs as
with
candidates as (
    select
        cells.model, cells.method, cells.language, cells.dpo, cells.quantization, cells.dataset, cells.n_responses,
        cells.in_paper_tables, cells.cell_id, named.recipe,
        main.settings_in_words(settings) as decoding,
        'KV ' || settings.kv_type as kv,
        'date ' || settings.chat_date as date,
        -- a is what b is compared with: no DPO before DPO, English and zero-shot first, more bits before fewer
        row_number() over (
            order by
                cells.dpo, cells.language <> 'en', cells.language,
                main.method_order(cells.method), cells.method,
                cells.model,
                try_cast(regexp_extract(cells.quantization, '[0-9]+') as integer) desc nulls last,
                cells.quantization, cells.n_responses desc, cells.last_created_at desc, cells.cell_id
        ) as position
    from main.cells as cells
    left join raw.cells as named on named.cell_id = cells.cell_id
    left join raw.settings as settings on settings.settings_id = cells.settings_id
),
pairs as (
    select
        a, b,
        list_filter(['model', 'method', 'language', 'dpo', 'quantization'], lambda name, i: [
            a.model <> b.model, a.method <> b.method, a.language <> b.language, a.dpo <> b.dpo,
            a.quantization <> b.quantization
        ][i]) as differences,
        a.in_paper_tables and b.in_paper_tables as both_shown,
        concat_ws(
            '; ',
            case when a.quantization <> b.quantization and len(differences) > 1 then
                concat('GGUF types differ (', a.quantization, ', ', b.quantization, ')')
            end,
            case when a.method = b.method and a.language = b.language and a.recipe <> b.recipe then
                'prompt texts differ'
            end,
            case
                when a.decoding <> b.decoding or a.date <> b.date
                    -- the default KV type of F32 weights is another
                    or a.kv <> b.kv and (a.quantization = 'F32') = (b.quantization = 'F32')
                then concat(
                    'settings differ (', concat_ws(', ', a.decoding, a.kv, a.date), '; ',
                    concat_ws(', ', b.decoding, b.kv, b.date), ')'
                )
            end
        ) as unlike
    from candidates as a
    join candidates as b
        on b.dataset = a.dataset and a.position < b.position
        -- one with parameters is compared with the method without them, never with another one
        and (
            a.method = b.method or a.method = main.base_method(b.method)
            or not main.has_parameters(a.method) and not main.has_parameters(b.method)
        )
    -- one thing, or one thing beside the type
    where len(list_filter(differences, lambda name: name <> 'quantization')) = 1 or differences = ['quantization']
    qualify row_number() over (
        partition by
            a.model, b.model, a.method, b.method, a.language, b.language, a.dpo, b.dpo,
            case when differences = ['quantization'] then a.quantization || ' ' || b.quantization end
        order by
            unlike = '' desc, both_shown desc, a.dataset = 'just-eval' desc,
            least(a.n_responses, b.n_responses) desc, a.position, b.position
    ) = 1
)
select
    differences[1] as differs_in,
    case differences[1]
        when 'model' then a.model
        when 'method' then a.method
        when 'language' then a.language
        when 'dpo' then a.dpo::varchar
        else a.quantization
    end as a,
    case differences[1]
        when 'model' then b.model
        when 'method' then b.method
        when 'language' then b.language
        when 'dpo' then b.dpo::varchar
        else b.quantization
    end as b,
    case when a.model = b.model then a.model end as model,
    case when a.method = b.method then a.method end as method,
    case when a.language = b.language then a.language end as language,
    case when a.dpo = b.dpo then a.dpo end as dpo,
    a.quantization as quantization_a,
    b.quantization as quantization_b,
    a.dataset,
    both_shown as in_paper_tables,
    main.has_parameters(b.method) as with_parameters,
    nullif(unlike, '') as unlike,
    a.cell_id as cell_id_a,
    b.cell_id as cell_id_b
from pairs;

comment on view main.cell_pairs is
'One row per pair of cells of one query set that differ in one thing: differs_in is model, method, language, dpo or quantization. Of several pairs that differ in the same thing the one that is alike in all else is taken, first among the cells that the tables show (in_paper_tables: both are). unlike says what else differs where no pair is alike: GGUF type, prompt text or decoding settings (the KV type where both files have the same default, the date where both templates have one); such a comparison carries no mark of significance. A method with parameters is compared with the method without them and with itself; with_parameters marks such pairs. a is what b is compared with; the column that differs is NULL among model, method, language, dpo. cell_id is that of cells.';
