-- $1: error. The responses that the error counts for, and whether the detector found it.
select response_id, failed from main.response_errors where error = $1
