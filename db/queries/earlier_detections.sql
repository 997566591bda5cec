-- Responses that only an earlier version of the detectors has read: views leave them out (see response_errors).
select count(distinct response_id)
from raw.critical_errors
where detector_version <> (
    select arg_max(detector_version, try_cast(string_split(detector_version, '.') as integer[]))
    from raw.critical_errors
)
