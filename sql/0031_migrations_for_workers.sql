-- 0031_migrations_for_workers.sql: a worker on another machine sees whether it is of the release of the database.
grant select on public.geo_migrations to geo_pipeline;
