create or replace view main.cell_pairs as
with
candidates as (
    select model, method, language, dpo, quantization, cell_id, in_paper_tables
    from main.cells
    qualify row_number() over (
        partition by model, method, language, dpo, quantization
        order by n_responses desc, last_created_at desc, settings_id
    ) = 1
),
numbered as (
    select
        model, method, language, dpo, quantization,
        cell_id, in_paper_tables,
        -- b is compared with a: no DPO before DPO, English and zero-shot first, more bits before fewer
        row_number() over (
            order by
                dpo, language <> 'en', language,
                main.method_order(method), method,
                model,
                try_cast(regexp_extract(quantization, '[0-9]+') as integer) desc nulls last,
                quantization
        ) as position
    from candidates
),
pairs as (
    select
        a, b,
        list_filter(['model', 'method', 'language', 'dpo'], lambda name, i: [
            a.model <> b.model, a.method <> b.method, a.language <> b.language, a.dpo <> b.dpo
        ][i]) as differences
    from numbered as a
    join numbered as b on a.position < b.position
)
select
    coalesce(differences[1], 'quantization') as differs_in,
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
    a.cell_id as cell_id_a,
    b.cell_id as cell_id_b
from pairs
where len(differences) = 0 or (len(differences) = 1 and a.in_paper_tables and b.in_paper_tables);

comment on view main.cell_pairs is
'One row per pair of cells that differ in one thing: differs_in is model, method, language or dpo between the cells of paper_cells (whatever their quantization), or quantization between cells that agree in all four. b is compared with a; the column that differs is NULL among model, method, language, dpo. cell_id is that of cells.';
