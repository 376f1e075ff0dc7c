-- 0001_schemas.sql: who may do what, where. Runs as the migrator, which owns the database.
-- Roles and extensions exist already (geo_assets/database/bootstrap.py); pgstac is migrated already.

create schema if not exists geo;
create schema if not exists vector;
create schema if not exists vector_staging;
create schema if not exists dagster authorization geo_pipeline;       -- Dagster migrates its own tables

comment on schema geo            is 'The ledger of geo_assets: jobs, attempts, tasks, inventory.';
comment on schema vector         is 'Published vector tables. Each appears, and is replaced, in one commit.';
comment on schema vector_staging is 'Tables being loaded. Nothing here is for readers.';
comment on schema dagster        is 'Dagster''s run, event and schedule storage.';

grant usage on schema geo to geo_pipeline, geo_reader;
grant usage, create on schema vector, vector_staging to geo_pipeline;
grant usage on schema vector to geo_reader;
grant create on schema public to geo_pipeline;           -- views of one's own over published tables

alter default privileges in schema geo grant select, insert, update, delete on tables to geo_pipeline;
alter default privileges in schema geo grant select on tables to geo_reader;
alter default privileges in schema geo grant usage on sequences to geo_pipeline;
alter default privileges for role geo_pipeline in schema vector grant select on tables to geo_reader;
