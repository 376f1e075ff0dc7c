-- 0011_reader.sql: what the reader does not need. What only an administrator can take away is in geo_assets/database/bootstrap.py.

-- Both hold the beginning of messages as they came, and what somebody sends by mistake is nobody's business.
revoke all on geo.message_heads from geo_reader;
revoke all on geo.errors from geo_reader;
grant select (error_id, at, severity, code, error_class, message, remedy, message_id, job_id, run_id, correlation_id) on geo.errors to geo_reader;

-- Temporary tables fill the disk without a limit.
do $$ begin
    execute format('revoke temporary on database %I from public', current_database());
    execute format('grant temporary on database %I to geo_pipeline, pgstac_admin, pgstac_ingest', current_database());
end $$;
