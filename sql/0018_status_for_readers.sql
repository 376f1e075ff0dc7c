-- 0018_status_for_readers.sql: the reader sees the status of jobs, and nothing else of Dagster's storage.

-- A function in a view runs with the rights of who asks, and schema dagster is closed to the reader. This one runs with the pipeline's, which
-- owns that schema. All names in it are qualified, and no schema that others may write to is searched. It answers for jobs alone, whose rows the
-- reader may read.
alter function geo.newest_run(text) security definer;
alter function geo.newest_run(text) set search_path = pg_catalog, pg_temp;
revoke all on function geo.newest_run(text) from public;
grant execute on function geo.newest_run(text) to geo_pipeline, geo_reader;
grant create on schema geo to geo_pipeline;                     -- an owner must have had it
alter function geo.newest_run(text) owner to geo_pipeline;
revoke create on schema geo from geo_pipeline;

-- No view asks this one.
revoke all on function geo.was_terminated(text) from public;
grant execute on function geo.was_terminated(text) to geo_pipeline;
