-- 0012_verified_sources.sql: files that were rewritten behind an unchanged etag (a directory's is inode, time and size).

alter table geo.attempts add column verify_sources boolean not null default false;     -- hash what counts as unchanged

-- A file whose bytes were found to be others than its etag stood for. While it has this etag, it counts as another with these bytes.
create table geo.rewritten (
    account    text        not null,
    container  text        not null,
    path       text        not null,
    etag       text        not null,
    sha256     text        not null,
    found_at   timestamptz not null default now(),
    primary key (account, container, path)
);
