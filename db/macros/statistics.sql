-- Intervals used by several views.

-- 0.975 quantile of the normal distribution: half the 95 % interval, in standard errors
create or replace macro main.z95() as 1.959963984540054;

-- a bound of Wilson's interval for n_errors of n, as a share; the lower bound if z is negative
create or replace macro main.wilson_bound(n_errors, n, z) as greatest(0, least(1,
    (n_errors + z * z / 2 + z * sqrt(n_errors * (n - n_errors) / n + z * z / 4)) / (n + z * z)
));

-- 0.975 quantile of Student's t with df degrees of freedom: a table to 30, then Abramowitz & Stegun 26.7.5
create or replace macro main.t_quantile(df) as case
    when df < 1 then null
    when df <= 30 then [
        12.706204736175, 4.302652729749, 3.182446305284, 2.776445105198, 2.570581835636,
        2.446911851145, 2.364624251593, 2.306004135204, 2.262157162798, 2.228138851986,
        2.200985160092, 2.178812829667, 2.160368656463, 2.144786687918, 2.131449545560,
        2.119905299221, 2.109815577833, 2.100922040241, 2.093024054408, 2.085963447266,
        2.079613844728, 2.073873067904, 2.068657610419, 2.063898561628, 2.059538552753,
        2.055529438643, 2.051830516480, 2.048407141795, 2.045229642133, 2.042272456301
    ][df::integer]
    else main.z95() + 2.372271230298562 / df + 2.8224986157396112 / power(df, 2)
        + 2.555849679507722 / power(df, 3) + 1.5895340533938225 / power(df, 4)
end;

-- two-sided p of Student's t: Abramowitz & Stegun 26.7.3 (odd df) and 26.7.4 (even df), a finite sum
create or replace macro main.t_two_sided(t, df) as case
    when df < 1 then null
    when isinf(t) then 0
    when df = 1 then 1 - 2 * atan(abs(t)) / pi()
    when df % 2 = 1 then greatest(0, 1 - 2 / pi() * (
        atan(abs(t) / sqrt(df)) + abs(t) / sqrt(df) / (1 + t * t / df) * list_sum(list_transform(
            range((df::integer - 1) // 2),
            lambda k: exp(2 * k * ln(2) + 2 * lgamma(k + 1) - lgamma(2 * k + 2) - k * ln(1 + t * t / df))
        ))
    ))
    else greatest(0, 1 - abs(t) / sqrt(df + t * t) * list_sum(list_transform(
        range(df::integer // 2),
        lambda k: exp(lgamma(2 * k + 1) - 2 * k * ln(2) - 2 * lgamma(k + 1) - k * ln(1 + t * t / df))
    )))
end;

-- lower p of Student's t
create or replace macro main.t_lower(t, df) as
    case when t < 0 then main.t_two_sided(t, df) / 2 else 1 - main.t_two_sided(t, df) / 2 end;

-- a bound of Wilson's interval for a share u with effective size k; the lower one for negative q
create or replace macro main.wilson_bound_of_share(u, k, q) as
    (u + q * q / (2 * k) + q * sqrt(u * (1 - u) / k + q * q / (4 * k * k))) / (1 + q * q / k);

-- sums over the queries of a cell of a 0/1 outcome: x of a query's m draws have it, and their share is one observation.
-- Where query is NULL, m queries have one response each, and x of them have it
create or replace macro main.share_sums(query, x, m) as {
    'n_errors': sum(x)::bigint, 'n': sum(m)::bigint,
    'n_queries': sum(case when query is null then m else 1 end)::bigint,
    's': sum(case when query is null then x else x / m end),
    'q': sum(case when query is null then x else x / m * (x / m) end)
};

-- effective size of the mean of shares: that of their variance between queries, so n_queries where they are 0 and 1
create or replace macro main.share_size(sums) as case
    when sums.s = 0 or sums.s = sums.n_queries then sums.n_queries
    when sums.q * sums.n_queries - sums.s * sums.s < 1e-9 then sums.n
    else least(sums.n, sums.n_queries * sums.s * (sums.n_queries - sums.s) / (sums.q * sums.n_queries - sums.s * sums.s))
end;

-- a bound in percent of Wilson's 95 % interval of the mean of shares; the lower one for side -1
create or replace macro main.share_bound(sums, side) as 100 * greatest(0, least(1, main.wilson_bound_of_share(
    sums.s / sums.n_queries, main.share_size(sums), side * main.z95()
)));

-- effective size of a mean m on [1, 5] with standard error se over n scores
create or replace macro main.effective_size(m, se, n) as
    case when m > 1 and m < 5 then (m - 1) / 4 * (5 - m) / 4 / (se / 4 * se / 4) else n end;

-- interval of a mean m on [1, 5]: Wilson's with the effective size, so it stays on the scale; q is a quantile of t.
-- Where all n scores are equal: as far as a value of 2.5 % probability, unseen in n draws, could move the mean
create or replace macro main.score_low(m, se, n, q) as case
    when n < 2 then null
    when se = 0 then m - (m - 1) * (1 - power(0.025, 1.0 / n))
    else 1 + 4 * main.wilson_bound_of_share((m - 1) / 4, main.effective_size(m, se, n), -q)
end;
create or replace macro main.score_high(m, se, n, q) as case
    when n < 2 then null
    when se = 0 then m + (5 - m) * (1 - power(0.025, 1.0 / n))
    else 1 + 4 * main.wilson_bound_of_share((m - 1) / 4, main.effective_size(m, se, n), q)
end;

-- sum of squares about the mean, from n, the sum s and the sum of squares q; what rounding leaves of 0 is 0
create or replace macro main.centered(n, s, q) as
    case when q * n - s * s > 1e-12 * n * q then (q * n - s * s) / n else 0.0 end;

-- clusters among the n scores of sums (main.cluster_sums)
create or replace macro main.n_clusters(sums) as sums.n - coalesce(sums.cm - sums.cc, 0);

-- standard error of the mean of clustered scores: C/(C-1) * sum over clusters of (sum of x - mean)^2 / n^2, C clusters.
-- Queries of one text are one observation; without such queries it is sd / sqrt(n)
create or replace macro main.clustered_se(sums) as case when main.n_clusters(sums) > 1 then sqrt(greatest(0,
    main.centered(sums.n, sums.s, sums.q)
    + coalesce(
        sums.ss - 2 * (sums.s / sums.n) * sums.ms + power(sums.s / sums.n, 2) * sums.mm
        - (sums.cq - 2 * (sums.s / sums.n) * sums.cs + power(sums.s / sums.n, 2) * sums.cm),
        0
    )
) * main.n_clusters(sums) / (main.n_clusters(sums) - 1)) / sums.n end;

-- half the 95 % interval of a mean paired difference; where all n are equal: as score_low and score_high, on [-4, 4]
create or replace macro main.difference_half(se, n, df) as
    case when se > 0 then main.t_quantile(df) * se when n > 1 then 4 * (1 - power(0.025, 1.0 / n)) end;

-- two-sided p of a mean paired difference; where all n are equal and not 0, that of the sign test
create or replace macro main.difference_p(difference, se, n, df) as case
    when n < 2 then null
    when se > 0 then main.t_two_sided(difference / se, df)
    when difference = 0 then 1.0
    else 2 * power(0.5, n)
end;

-- variance of a printed mean of scores: of its n scores, with our standard deviation where 30 scores or more give one,
-- else the largest possible, and of its rounding to two decimals
create or replace macro main.printed_variance(printed, sd, n_ours, n_printed) as
    case when n_ours >= 30 then sd * sd else (5 - printed) * (printed - 1) end / n_printed + 0.01 * 0.01 / 12;

-- a bound of Newcombe's interval for the difference a - b of two shares; the lower one for side -1
create or replace macro main.newcombe(x_a, n_a, x_b, n_b, side) as
    x_a / n_a - x_b / n_b + side * sqrt(
        power(x_a / n_a - main.wilson_bound(x_a, n_a, side * main.z95()), 2)
        + power(x_b / n_b - main.wilson_bound(x_b, n_b, -side * main.z95()), 2)
    );

-- McNemar's exact test of two counts of discordant pairs: twice the lower tail of a binomial distribution with p = 0.5,
-- term by term from log factorials
create or replace macro main.mcnemar_p(only_a, only_b) as
    least(1, 2 * list_sum(list_transform(
        range(least(only_a, only_b) + 1),
        lambda i: exp(
            lgamma(only_a + only_b + 1) - lgamma(i + 1) - lgamma(only_a + only_b - i + 1) - (only_a + only_b) * ln(2)
        )
    )));

-- Holm's correction: the place of a test among those of its family by p; excluded tests come after all others
create or replace macro main.holm_place(family, excluded, p) as
    row_number() over (partition by family order by excluded, p nulls last);
create or replace macro main.holm_p(family, place, n_tests, p) as
    least(1, max((n_tests - place + 1) * p) over (partition by family order by place));

-- what the sums over clusters (main.cluster_sums) say of the n scores; mean_a: of the baseline, in pairs
create or replace macro main.moments(sums) as {
    'n': sums.n::bigint,
    'mean': sums.s / sums.n,
    'mean_a': sums.a / sums.n,
    'sd': sqrt(main.centered(sums.n, sums.s, sums.q) / nullif(sums.n - 1, 0)),
    'se': main.clustered_se(sums),
    'df': (main.n_clusters(sums) - 1)::bigint
};
