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

-- mean, standard deviation and count of one score
create or replace macro main.moment(score) as
    {'mean': avg(score), 'sd': stddev_samp(score), 'n': count(score)};

-- the same of the difference b - a over pairs with both scores, and the mean of a over these pairs
create or replace macro main.pair_moment(a, b) as {
    'mean_a': avg(a) filter (where b is not null),
    'difference': avg(b - a),
    'sd': stddev_samp(b - a),
    'n': count(b - a)
};

create or replace macro main.pair_moments(a, b) as {
    'helpfulness': main.pair_moment(a.helpfulness, b.helpfulness),
    'clarity': main.pair_moment(a.clarity, b.clarity),
    'factuality': main.pair_moment(a.factuality, b.factuality),
    'depth': main.pair_moment(a.depth, b.depth),
    'engagement': main.pair_moment(a.engagement, b.engagement),
    'avg': main.pair_moment(a.avg, b.avg),
    'language': main.pair_moment(a.language, b.language),
    'safety': main.pair_moment(a.safety, b.safety)
};
