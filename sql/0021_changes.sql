-- 0021_changes.sql: what changed in the catalogue, in the order of the commits, so that a mirror can follow it.

create type geo.change_op as enum ('create', 'update', 'delete');

-- Append only; old rows are deleted from the beginning.
create table geo.changes (
    number      bigint        generated always as identity primary key,
    op          geo.change_op not null,
    collection  text          not null,
    item        text,                                          -- null: the collection itself; if it is deleted, so are its items
    at          timestamptz   not null
);
create index on geo.changes using brin (at);

-- What the transactions under way have changed. Each empties it of its own notes as it commits, so nobody sees another's.
create unlogged table geo.change_notes (
    note        bigint        generated always as identity primary key,
    op          geo.change_op not null,
    collection  text          not null,
    item        text
);

create table geo.change_feed (
    is_one      boolean       primary key default true check (is_one),
    feed        text          not null default left(md5(gen_random_uuid()::text), 8),   -- a cursor of another database leads nowhere
    gone        bigint        not null default 0               -- the last number that was deleted
);
insert into geo.change_feed default values;
revoke insert, update on geo.changes from geo_pipeline;        -- only the triggers write
revoke all on geo.change_notes from geo_pipeline, geo_reader;
revoke insert, delete on geo.change_feed from geo_pipeline;

-- Notes a changed row of pgstac at once: an event that waited for the commit would keep pgstac from changing its partitions.
create function geo.note_change() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    op geo.change_op := case tg_op when 'INSERT' then 'create' when 'UPDATE' then 'update' else 'delete' end;
    changed record;
begin
    if tg_op = 'DELETE' then
        changed := old;
    else
        changed := new;
    end if;
    if tg_argv[0] = 'item' then
        insert into geo.change_notes (op, collection, item) values (op, changed.collection, changed.id);
    else
        insert into geo.change_notes (op, collection) values (op, changed.id);
    end if;
    return null;
end $$;

-- Numbers the notes of a transaction as it commits. A number is taken and becomes visible while the lock is held: so whoever
-- sees a number sees every smaller one, and nobody misses what commits later. Nothing else is waited for with the lock.
create function geo.number_changes() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    if exists (select from geo.change_notes where note = new.note) then                        -- the first note numbers them all
        perform pg_advisory_xact_lock(hashtextextended('geo_assets:changes', 0));
        with mine as (delete from geo.change_notes returning *)
        insert into geo.changes (op, collection, item, at)
            select mine.op, mine.collection, mine.item, clock_timestamp() from mine order by note;
    end if;
    return null;
end $$;
revoke all on function geo.note_change(), geo.number_changes() from public;
grant execute on function geo.note_change() to pgstac_admin;   -- who creates a partition gives it the triggers of the whole

create constraint trigger numbered after insert on geo.change_notes
    deferrable initially deferred for each row execute function geo.number_changes();
create trigger geo_changes after insert or delete on pgstac.items
    for each row execute function geo.note_change('item');
create trigger geo_changes_of_content after update on pgstac.items for each row
    when ((old.content, old.geometry, old.datetime, old.end_datetime)
          is distinct from (new.content, new.geometry, new.datetime, new.end_datetime))
    execute function geo.note_change('item');
create trigger geo_changes after insert or delete on pgstac.collections
    for each row execute function geo.note_change('collection');
create trigger geo_changes_of_content after update on pgstac.collections
    for each row when (old.content is distinct from new.content) execute function geo.note_change('collection');

-- What is there already is what came first.
insert into geo.changes (op, collection, at) select 'create', id, now() from pgstac.collections order by id;
insert into geo.changes (op, collection, item, at)
    select 'create', collection, id, now() from pgstac.items order by collection, id;
