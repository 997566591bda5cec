-- Terms used by several views: methods, finish reasons, statuses of judgments, the selection shown in tables.

-- the study's order of methods; others come after, by name
create or replace macro main.method_order(method) as
    coalesce(list_position(['zero-shot', 'urial', 'instruct'], method), 4);

-- order of the prompts that score an answer: its own first, then methods as the tables order them
create or replace macro main.scoring_order(method) as
    coalesce(list_position(['own', 'same'], method), 2 + main.method_order(method));

-- a method without its parameters: urial of urial[k=1]; true if it has some
create or replace macro main.base_method(method) as split_part(method, '[', 1);
create or replace macro main.has_parameters(method) as contains(method, '[');

-- the parameters of a method as a list of texts key=value, the value of one (NULL: not named), the name without it
create or replace macro main.parameters_of(method) as
    list_filter(string_split(regexp_extract(method, '\[(.*)\]', 1), ','), lambda pair: pair <> '');
create or replace macro main.parameter_of(method, key) as
    split_part(list_filter(main.parameters_of(method), lambda pair: split_part(pair, '=', 1) = key)[1], '=', 2);
create or replace macro main.without_parameter(method, key) as concat(
    main.base_method(method),
    '[' || nullif(array_to_string(
        list_filter(main.parameters_of(method), lambda pair: split_part(pair, '=', 1) <> key), ','
    ), '') || ']'
);

-- name of a model for people, which says whether it is the DPO variant
create or replace macro main.with_dpo(model, dpo) as model || case when dpo then ' DPO' else '' end;

-- what the cells share whose methods differ in their parameters alone; cell: a row of view cells
create or replace macro main.method_family(cell) as {
    'model': cell.model, 'quantization': cell.quantization, 'language': cell.language, 'dpo': cell.dpo,
    'dataset': cell.dataset, 'settings_id': cell.settings_id, 'base_method': main.base_method(cell.method)
};

-- in files for other tools: the id of a query, a number where it is one, and the name of a cell
create or replace macro main.exported_id(query_id) as
    case when regexp_full_match(query_id, '0|[1-9][0-9]*') then query_id::json else to_json(query_id) end;
create or replace macro main.generator(model, dpo, quantization, method, language) as case
    when method = 'imported' then model
    else replace(concat_ws('.', model, case when dpo then 'dpo' end, quantization, method, language), ' ', '-')
end;

-- true if a response has a text to judge
create or replace macro main.answered(finish_reason) as finish_reason not in ('prompt_too_long', 'error');

-- how responses with a row of raw.settings are sampled; NULL: greedily
create or replace macro main.sampling_in_words(settings) as
    case when settings.temperature > 0 then concat_ws(
        ', ', 'temperature ' || settings.temperature, case when settings.top_p < 1 then 'top-p ' || settings.top_p end,
        case when settings.min_p > 0 then 'min-p ' || settings.min_p end
    ) end;

-- decoding settings (a row of raw.settings), but for KV type and date, whose defaults depend on file and method
create or replace macro main.settings_in_words(settings) as concat_ws(
    ', ', 'max_tokens ' || settings.max_tokens, 'penalty ' || settings.repetition_penalty,
    case when starts_with(settings.penalty_rule, 'server:') then settings.penalty_rule end, settings.decoding,
    case when settings.stop_on_loop then 'stop on loop' end, case when settings.plain_queries then 'plain queries' end,
    main.sampling_in_words(settings)
);

-- true if responses with these settings are sampled, so that a query may have several
create or replace macro main.sampled(settings) as
    settings in (select settings_id from raw.settings where temperature > 0);

-- true for an attempt that is followed by another
create or replace macro main.transient(status) as status in ('http_error', 'quota');

-- origin of the cells in tables and figures: the variable icl_origin, ours by default
create or replace macro main.shown_origin() as coalesce(getvariable('icl_origin'), 'ours');

-- size class of a model the paper names, from the parameters in its name
create or replace macro main.printed_size(model) as
    case when regexp_extract(model, '([0-9.]+)B$', 1)::double < 2 then 'small' else 'medium' end;

-- the loops that tables count, by the variable icl_loops: strict (a unit with a letter or digit, 50 characters in all)
-- by default, or literal (any sequence more than 5 times)
create or replace macro main.loops_reading() as coalesce(getvariable('icl_loops'), 'strict');
create or replace macro main.shown_error(error) as case
    when error = 'unintended_code' then error
    when error = case main.loops_reading() when 'literal' then 'infinite_loop_literal' else 'infinite_loop' end then 'infinite_loop'
end;

-- the engine settings (raw.run_cells, raw.verifications) on which the order of a sum can depend; NULL: not recorded
create or replace macro main.kernel_settings(settings) as
    case when settings ->> '$.min_rows' is not null then
        'unified KV ' || (settings ->> '$.kv_unified') || ', flash attention ' || (settings ->> '$.flash_attn')
        || ', repacked ' || coalesce(settings ->> '$.repack', 'true') || ', rows from ' || (settings ->> '$.min_rows')
        || ', KV ' || coalesce(settings ->> '$.kv_type', 'f16') || ', GPU layers '
        || coalesce(settings ->> '$.gpu_layers', '0') || ', threads ' || coalesce(settings ->> '$.threads', 'auto')
        || ', chunks of ' || coalesce(settings ->> '$.n_ubatch', '512')
    end;

-- true if a row is selected; chosen: a struct of lists by column (icl_local.store.Selection), NULL takes all
create or replace macro main.selected(chosen, model_, method_, language_, split_, dataset_, quantization_) as
    (chosen['model'] is null or list_contains(chosen['model'], model_))
    and (chosen['method'] is null or list_contains(chosen['method'], method_))
    and (chosen['language'] is null or list_contains(chosen['language'], language_))
    and (chosen['split'] is null or list_contains(chosen['split'], split_))
    and (chosen['dataset'] is null or list_contains(chosen['dataset'], dataset_))
    and (chosen['quantization'] is null or list_contains(chosen['quantization'], quantization_));

-- of a row of cell_pairs, or of a test of one: the family over which its p is corrected, by the table of scores or errors
-- that shows methods in English, methods in other languages, and DPO
create or replace macro main.test_family(pair, english, others, with_dpo) as case
    when pair.with_parameters then 'parameters'
    when pair.differs_in = 'method' and not pair.dpo and pair.language = 'en' then english
    when pair.differs_in = 'method' and not pair.dpo then others
    when pair.differs_in = 'dpo' then with_dpo
    else pair.differs_in
end;

-- true if a table marks the difference: of cells that it shows, from zero-shot or without DPO; and the cell with the mark
create or replace macro main.is_marked(pair) as
    pair.in_paper_tables
    and (pair.differs_in = 'dpo' or (pair.differs_in = 'method' and pair.a = 'zero-shot' and not pair.dpo));
create or replace macro main.marked_cell(pair) as {
    'differs_in': pair.differs_in, 'language': pair.language, 'model': pair.model,
    'method': case when pair.differs_in = 'method' then pair.b else pair.method end, 'dpo': pair.differs_in = 'dpo'
};

-- a number of a judge and a judge template, from their row numbers: views join and group by it
create or replace macro main.instrument(judge_row, template_row) as judge_row * 1000000 + template_row;

-- a number of a cell and a query, from their row numbers, and the two in it: looked up faster than texts. A query that
-- is not stored has a number without a row
create or replace macro main.answer(cell_row, query_row) as (cell_row << 32) + coalesce(query_row, 4294967295);
create or replace macro main.cell_of(answer) as answer >> 32;
create or replace macro main.query_of(answer) as answer & 4294967295;
