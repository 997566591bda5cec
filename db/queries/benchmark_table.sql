-- $1: ids of runs of the benchmark, $2: the contender whose rate in the same run others are compared with. Medians over
-- the runs by contender and batch size, and ranges where several runs measured it.
with
loop as (
    select benchmark_id, nullif(tokens_per_second, 0) as rate
    from raw.benchmarks
    where contender = $2
),
measured as (
    select
        made.rowid as place, made.contender, made.n_parallel,
        nullif(made.tokens_per_second, 0) as rate,
        nullif(made.tokens_per_second, 0) / loop.rate as ratio,
        nullif(made.seconds, 0) as seconds,
        nullif((made.detail ->> 'load_seconds')::double, 0) as load_seconds,
        nullif((made.detail ->> 'warmup_seconds')::double, 0) as warmup_seconds,
        (made.detail ->> 'decode_rate')::double as decode_rate,
        (made.detail ->> 'outside_share')::double as outside_share,
        (made.detail ->> 'peak_rss_bytes')::double as peak_rss_bytes,
        made.detail ->> 'error' as error
    from raw.benchmarks as made
    left join loop on loop.benchmark_id = made.benchmark_id
    where list_contains($1::varchar[], made.benchmark_id)
)
select
    contender,
    n_parallel as "at once",
    median(rate) as "tokens/s",
    case when count(rate) > 1 then printf('%.1f to %.1f', min(rate), max(rate)) end as "range",
    median(ratio) as "x loop",
    case when count(ratio) > 1 then printf('%.1f to %.1f', min(ratio), max(ratio)) end as "range x loop",
    median(seconds) as seconds,
    median(load_seconds) as "load s",
    median(warmup_seconds) as "warm-up s",
    median(decode_rate) as "decode tokens/s",
    100 * median(outside_share) as "outside decode %",
    trunc(median(peak_rss_bytes) / 1e6)::bigint as "MB",
    min_by(error, place) as error
from measured
group by contender, n_parallel
order by min(place)
