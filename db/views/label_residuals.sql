create or replace view main.label_residuals as
with
referees as (
    select
        judge_id,
        main.shown_reference() as reference,
        case when backend = 'human' then backend else judge_id end as reference_id
    from raw.judges
    where main.is_referee(backend, name)
),
frame as (
    select
        sample.name as sample, sample.sample_id, cell.rowid as cell, query.query_id, item.stratum,
        coalesce(query.split, '') = 'safety' as is_safety, item.place <= sample.per_cell as drawn, item.response_id
    from main.latest_samples() as sample
    join raw.sample_items as item on item.sample_id = sample.sample_id
    join raw.responses as response on response.response_id = item.response_id
    join raw.cells as cell on cell.cell_id = response.cell_id
    join raw.queries as query on query.query_key = response.query_key
    where main.asked_of_raters(sample.strata, 'multi')
),
-- a cell alone, and what a pair is compared on: the queries that both cells answered
sides as (
    select 'none' as differs_in, rowid as cell_a, rowid as cell_b, rowid as cell, rowid as other
    from raw.cells
    union all
    select pairs.differs_in, a.rowid, b.rowid, unnest([a.rowid, b.rowid]), unnest([b.rowid, a.rowid])
    from main.cell_pairs as pairs
    join raw.cells as a on a.cell_id = pairs.cell_id_a
    join raw.cells as b on b.cell_id = pairs.cell_id_b
),
answered as (
    select sides.*, frame.* exclude (cell)
    from sides
    join frame on frame.cell = sides.cell
    semi join frame as theirs
        on theirs.cell = sides.other and theirs.sample_id = frame.sample_id and theirs.query_id = frame.query_id
),
sizes as (
    select
        sample_id, cell_a, cell_b, cell, is_safety, stratum,
        count(*) as m_stratum,
        (sum(count(*)) over (partition by sample_id, cell_a, cell_b, cell, is_safety))::bigint as m
    from answered
    group by sample_id, cell_a, cell_b, cell, is_safety, stratum
),
verdicts as (
    select
        frame.sample_id, frame.cell, frame.is_safety, frame.drawn, score.response_id, score.instrument,
        score.judge_id, score.judge, score.template, score.template_sha256, score.reading, columns(main.metrics())
    from frame
    join main.response_scores as score on score.response_id = frame.response_id
),
-- of the texts that a judge template of one name had in a cell, the most used
standing as (
    select *
    from verdicts
    semi join (
        select sample_id, cell, is_safety, instrument
        from verdicts
        group by sample_id, cell, is_safety, instrument, judge_id, template, template_sha256
        qualify row_number() over (
            partition by sample_id, cell, is_safety, judge_id, template
            order by count(*) filter (where reading = 'strict') desc, template_sha256
        ) = 1
    ) using (sample_id, cell, is_safety, instrument)
),
labelled as (
    select
        sample_id, response_id, reference, reference_id, template as reference_template,
        template_sha256 as reference_sha256, main.label_of(columns(main.metrics()), reading)
    from standing
    join referees using (judge_id)
    where drawn
    group by sample_id, response_id, reference, reference_id, template, template_sha256
),
labels as (
    unpivot labelled on columns(main.metrics()) into name metric value label
),
-- the labelled answers; of a pair, to the queries labelled in both cells
common as (
    select
        answered.* exclude (other, drawn), labels.* exclude (sample_id, response_id, label),
        labels.label.strict as strict, labels.label.with_na as with_na,
        case when differs_in = 'language' then reference_template else reference_sha256 end as reference_text
    from answered
    join labels using (sample_id, response_id)
    where labels.label.with_na is not null
    qualify differs_in = 'none' or count(*) over (
        partition by sample_id, cell_a, cell_b, query_id, reference_id, reference_text, metric
    ) = 2
),
judged as (
    select *
    from standing
    anti join referees using (judge_id)
    anti join (select judge_id from raw.judges where backend = 'human') as humans using (judge_id)
),
frame_scores as (
    unpivot (
        select
            sample_id, cell_a, cell_b, answered.cell, answered.is_safety, instrument, reading,
            count(*) as n_judged,
            avg(columns(main.metrics()))
        from answered
        join judged using (sample_id, response_id)
        group by sample_id, cell_a, cell_b, answered.cell, answered.is_safety, instrument, reading
    ) on columns(main.metrics()) into name metric value judge_mean
),
predictions as (
    unpivot (
        select sample_id, response_id, instrument, reading, columns(main.metrics()) from judged where drawn
    ) on columns(main.metrics()) into name metric value score
),
-- one fit for each cell of a pair, judge text, reading, metric, and text and kind of reference
fits as materialized (
    select
        row_number() over () as fit, of_cell.*, frame_scores.* exclude (sample_id, cell_a, cell_b, cell, is_safety, metric)
    from (
        select
            sample, sample_id, differs_in, cell_a, cell_b, cell, is_safety, metric, reference, reference_id,
            reference_template, reference_sha256, reference_text
        from common
        group by all
    ) as of_cell
    join frame_scores using (sample_id, cell_a, cell_b, cell, is_safety, metric)
),
paired as (
    select
        fits.fit, fits.n_judged, common.response_id, common.query_id, common.stratum,
        case fits.reading when 'just_eval' then common.with_na else common.strict end as y,
        predictions.score as f,
        coalesce(predictions.score - fits.judge_mean, 0) as h,
        sizes.m, sizes.m_stratum
    from fits
    join common using (sample_id, cell_a, cell_b, cell, metric, reference_id, reference_sha256)
    join sizes on
        sizes.sample_id = fits.sample_id and sizes.cell_a = fits.cell_a and sizes.cell_b = fits.cell_b
        and sizes.cell = fits.cell and sizes.stratum = common.stratum
    left join predictions
        on predictions.sample_id = fits.sample_id and predictions.response_id = common.response_id
        and predictions.instrument = fits.instrument and predictions.reading = fits.reading
        and predictions.metric = fits.metric
),
counted as (
    select
        *,
        count(*) over (partition by fit) as n,
        m_stratum / m / count(*) over (partition by fit, stratum) as w,
        count(*) over (partition by fit, h) as n_alike
    from paired
),
centred as (
    select
        *,
        -- a judge that is constant on the labels, or has not yet scored the frame, predicts nothing
        n - max(n_alike) over part >= 8 and n_judged >= 0.95 * m as predicts,
        sum(w) over part as weight,
        sum(w * h) over part as h_mean,
        sum(w) filter (where y is not null) over part as y_weight,
        sum(w * y) over part / y_weight as y_mean,
        coalesce((y - y_mean) / y_weight, 0) as z
    from counted
    window part as (partition by fit)
),
fitted as (
    select
        *,
        sum(w * (h - h_mean) * (h - h_mean)) over part as v,
        case when predicts then sum(w * (h - h_mean) * z) over part / v else 0 end as slope
    from centred
    window part as (partition by fit)
)
select
    fits.sample, fits.differs_in, fits.cell_a, fits.cell_b, fits.cell, fitted.query_id, fitted.stratum,
    instruments.judge, instruments.template, fits.reading, fits.metric, fits.reference, fits.reference_template,
    fitted.y, fitted.f, fitted.h, fitted.w, fitted.z,
    fitted.z - fitted.slope * (fitted.h - fitted.h_mean) as e,
    fitted.n, fitted.m, fitted.m_stratum, fits.n_judged, fitted.weight, fits.judge_mean, fitted.y_mean, fitted.h_mean,
    fitted.v, fitted.slope, fitted.predicts, fits.is_safety, fitted.response_id, fits.sample_id, fits.instrument,
    instruments.judge_id, instruments.template_sha256, fits.reference_id, fits.reference_sha256,
    case when differs_in = 'language' then template else template_sha256 end as judge_text, fits.reference_text,
    fits.fit
from fitted
join fits using (fit)
join main.instruments as instruments on instruments.instrument = fits.instrument;

comment on view main.label_residuals is
'One row per sample, cell or pair of cells (cell_a, cell_b; the same for a cell alone), cell of the pair, labelled answer, judge, template, reading, metric and reference: label y, judge''s score f, its distance h from the judge''s mean over the frame, weight w, influence z of y on the labels'' mean, and residual e of z after the regression on h. A pair is compared on the queries labelled in both cells. cell is a row number of raw.cells; fit numbers the regressions. reference: by the variable icl_reference the mean of the human raters (human, the default), of all but one (human without ana), or a judge''s name. predicts: 8 labelled answers or more have an h other than the most frequent one, and the judge has scored 95 % of the frame; otherwise the slope is 0.';
