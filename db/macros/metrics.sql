-- Metrics of a judge. All views list metrics through these macros: a new metric is one line in each macro with a list.

-- all metrics in the order of tables and figures; avg is the mean of the aspects
create or replace macro main.metrics() as
    ['helpfulness', 'clarity', 'factuality', 'depth', 'engagement', 'avg', 'language', 'safety'];

-- the study's five aspects
create or replace macro main.aspects() as
    ['helpfulness', 'clarity', 'factuality', 'depth', 'engagement'];

-- metrics in a judge's reply, and those of them that are not aspects
create or replace macro main.judged_metrics() as list_filter(main.metrics(), lambda metric: metric <> 'avg');
create or replace macro main.other_metrics() as
    list_filter(main.judged_metrics(), lambda metric: not list_contains(main.aspects(), metric));

create or replace macro main.metric_order(metric) as list_position(main.metrics(), metric);

-- columns of the paper's tables: printed name -> value of that metric
create or replace macro main.printed_scores(metric, value) as {
    'helpful': max(value) filter (where metric = 'helpfulness'),
    'clear': max(value) filter (where metric = 'clarity'),
    'factual': max(value) filter (where metric = 'factuality'),
    'depth': max(value) filter (where metric = 'depth'),
    'engaging': max(value) filter (where metric = 'engagement'),
    'avg': max(value) filter (where metric = 'avg'),
    'lang': max(value) filter (where metric = 'language'),
    'safe': max(value) filter (where metric = 'safety')
};

-- positions of the metrics in a template's list, as columns at_<metric>; NULL if the template does not ask for one
create or replace macro main.metric_positions(listed) as {
    'at_helpfulness': list_position(listed, 'helpfulness'),
    'at_clarity': list_position(listed, 'clarity'),
    'at_factuality': list_position(listed, 'factuality'),
    'at_depth': list_position(listed, 'depth'),
    'at_engagement': list_position(listed, 'engagement'),
    'at_language': list_position(listed, 'language'),
    'at_safety': list_position(listed, 'safety')
};

-- mean of the scores 1 to 5 by their probabilities p (1 to 5, N/A), where the verdict is a score and 99 % is decided
create or replace macro main.expected_score(score, p) as case
    when score is not null and list_sum(p) >= 0.99 then
        (p[1] + 2 * p[2] + 3 * p[3] + 4 * p[4] + 5 * p[5]) / (p[1] + p[2] + p[3] + p[4] + p[5])
end;

-- sums over the scores of one cluster: queries of one text are one cluster, every other query is its own
create or replace macro main.score_sums(score) as
    {'m': count(score), 's': sum(score), 'q': sum(score * score), 'a': null::double};

-- the same of b - a over the pairs that have both scores, and the sum of a over them
create or replace macro main.pair_sums_of(a, b) as {
    'm': count(b - a), 's': sum(b - a), 'q': sum((b - a) * (b - a)), 'a': sum(a) filter (where b is not null)
};
create or replace macro main.pair_sums(a, b) as {
    'helpfulness': main.pair_sums_of(a.helpfulness, b.helpfulness),
    'clarity': main.pair_sums_of(a.clarity, b.clarity),
    'factuality': main.pair_sums_of(a.factuality, b.factuality),
    'depth': main.pair_sums_of(a.depth, b.depth),
    'engagement': main.pair_sums_of(a.engagement, b.engagement),
    'avg': main.pair_sums_of(a.avg, b.avg),
    'language': main.pair_sums_of(a.language, b.language),
    'safety': main.pair_sums_of(a.safety, b.safety)
};

-- sums over clusters of what score_sums found; cluster is NULL for the queries that are their own cluster
create or replace macro main.cluster_sums(part, cluster) as {
    'n': sum(part.m), 's': sum(part.s), 'q': sum(part.q), 'a': sum(part.a),
    'ss': sum(part.s * part.s) filter (where cluster is not null),
    'ms': sum(part.m * part.s) filter (where cluster is not null),
    'mm': sum(part.m * part.m) filter (where cluster is not null),
    'cq': sum(part.q) filter (where cluster is not null),
    'cs': sum(part.s) filter (where cluster is not null),
    'cm': sum(part.m) filter (where cluster is not null),
    'cc': count(*) filter (where cluster is not null and part.m > 0)
};
