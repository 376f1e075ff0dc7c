-- 0016_loose_tables.sql: tables that were published by tasks which gave them up before they were registered; dropped where nobody stands behind them.

create table geo.loose_tables (
    table_name  text        primary key,                       -- schema.name
    since       timestamptz not null default now()
);
create index on geo.loose_tables (since);
