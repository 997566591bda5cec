-- What random samples with labels say of their frame; used by the views label_residuals, corrected_means and
-- corrected_differences.

-- whose scores are the labels, by the variable icl_reference: human (all raters), human without ana, or a judge's name
create or replace macro main.shown_reference() as coalesce(getvariable('icl_reference'), 'human');
create or replace macro main.is_referee(backend, name) as case
    when main.shown_reference() = 'human' then backend = 'human'
    when starts_with(main.shown_reference(), 'human without ') then
        backend = 'human' and name <> replace(main.shown_reference(), 'human without ', 'human:')
    else name = main.shown_reference()
end;

-- label of one response and metric: the mean over raters by reading, NULL in strict where all of them said N/A
create or replace macro main.label_of(score, reading) as {
    'strict': avg(score) filter (where reading = 'strict'),
    'with_na': avg(score) filter (where reading = 'just_eval')
};

-- what residuals e with weights w of one stratum add to the variance of an estimate: labelled n of m, m_all in all strata
create or replace macro main.stratum_part(e, w, n, m, m_all) as {
    'n': n,
    'ss': sum(w * e * e),
    'variance': var_samp(e),
    'factor': power(m / m_all, 2) * (1 - n / m) / n
};

-- over the strata: the pooled variance serves strata with under 10 labels, the others have their own
create or replace macro main.sampling_sums(part) as {
    'strata': count(*),
    'ss': sum(part.ss),
    'pooled': coalesce(sum(part.factor) filter (where part.n < 10), 0),
    'own': coalesce(sum(part.factor * part.variance) filter (where part.n >= 10), 0)
};

-- variance of the mean residual of n labels about its frame; df: labels less strata and slopes
create or replace macro main.sampling_variance(sums, n, df) as
    (n * sums.ss * sums.pooled + (n - sums.strata) * sums.own) / nullif(df, 0);

-- Agreement of two raters a and b, from the number of pairs and their sums. kappa: Cohen, quadratic weights; alpha:
-- Krippendorff, interval data; r: Pearson. NULL where no score varies.
create or replace macro main.agreement_sums(a, b) as {
    'n': count(*), 'a': sum(a), 'b': sum(b), 'aa': sum(a * a), 'bb': sum(b * b), 'ab': sum(a * b)
};
create or replace macro main.agreement_of(n, a, b, aa, bb, ab) as {
    'kappa': 1 - (aa + bb - 2 * ab) / nullif(
        main.centered(n, a, aa) + main.centered(n, b, bb) + (a - b) * (a - b) / n, 0
    ),
    'alpha': 1 - (aa + bb - 2 * ab) / nullif(main.centered(2 * n, a + b, aa + bb) * 2 * n / (2 * n - 1), 0),
    'r': (ab - a * b / n) / nullif(sqrt(main.centered(n, a, aa) * main.centered(n, b, bb)), 0)
};

-- Krippendorff's alpha for interval data with gaps: n scores of items with two raters or more, their sum s and sum of
-- squares q; within: the sum over items of m/(m - 1) times the sum of squares about the item's mean, m scores each
create or replace macro main.alpha_of(n, s, q, within) as
    1 - within * (n - 1) / nullif(n * main.centered(n, s, q), 0);

-- half the 95 % interval of a statistic, from its values without one of the queries each (delete-one jackknife)
create or replace macro main.jackknife_half(value) as
    case when count(*) >= 10 and count(value) = count(*) then
        main.t_quantile(count(*) - 1) * sqrt((count(*) - 1) * var_pop(value))
    end;
create or replace macro main.agreement_low(value, half) as case when half is not null then greatest(-1, value - half) end;
create or replace macro main.agreement_high(value, half) as case when half is not null then least(1, value + half) end;

-- what a stratum adds to the squared distance of a corrected error rate to its bound (side -1 or 1): errors in n labels
-- of m answers, m_all in all strata (MOVER: Zou & Donner, Statistics in Medicine, 2008)
create or replace macro main.rate_part(errors, n, m, m_all, side) as
    power(m / m_all, 2) * (1 - n / m)
    * power(errors / n - main.wilson_bound(errors, n, side * main.z95()), 2);
create or replace macro main.rate_bound(rate, m, parts, side) as
    rate + side * sqrt(power(rate - main.wilson_bound(rate * m, m, side * main.z95()), 2) + parts);

-- the samples that count, the latest of each name; the items of a frame that are drawn
create or replace macro main.latest_samples() as table
    from raw.samples
    qualify row_number() over (partition by name order by created_at desc, sample_id) = 1;
create or replace macro main.drawn_items() as table
    select item.sample_id, item.response_id
    from raw.sample_items as item
    join raw.samples as sample on sample.sample_id = item.sample_id and item.place <= sample.per_cell;

-- true if a template (its name) is what raters of a sample are asked; strata: of raw.samples
create or replace macro main.asked_of_raters(strata, template) as
    case when strata in ('infinite_loop', 'unintended_code') then template = concat('errors.', strata)
    else not starts_with(template, 'errors.') end;
