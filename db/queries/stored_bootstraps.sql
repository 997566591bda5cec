select bootstrap_id from raw.bootstraps where samples = ? and seed = ?
