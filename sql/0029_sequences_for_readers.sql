-- 0029_sequences_for_readers.sql: the reader moves no sequence. pgstac grants all rights on its own to all who read; with `setval` a number would be given
-- twice, and the next publication would fail.

revoke usage, update on all sequences in schema pgstac from pgstac_read;

-- Those that pgstac makes later, by whoever makes them here.
alter default privileges in schema pgstac revoke usage, update on sequences from pgstac_read;
do $$
declare
    maker name;
begin
    for maker in select rolname from pg_roles where rolname in ('pgstac_admin', 'pgstac_ingest') and pg_has_role(oid, 'member') loop
        execute format('alter default privileges for role %I in schema pgstac revoke usage, update on sequences from pgstac_read', maker);
    end loop;
end $$;
