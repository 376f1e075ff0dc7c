-- 0043_pause.sql: no attempt is launched for a while. What has begun goes on; what is submitted is recorded and waits.

create table geo.pause (
    one         boolean     primary key default true check (one),  -- there is one pause at a time
    until       timestamptz not null,                              -- then it is over, whoever began it
    reason      text        not null,
    since       timestamptz not null default now()
);

create function geo.paused() returns boolean language sql stable
    return exists (select from geo.pause where until > now());

grant select on geo.pause to geo_reader;
