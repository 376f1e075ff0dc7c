-- 0014_spatial_references.sql: reference systems that PROJ knows and this PostGIS does not are added when a layer needs one.

-- The pipeline may not write to spatial_ref_sys: a definition that is there is everybody's. It may add what is missing, under its own number.
create function vector_staging.add_spatial_reference(srid integer, authority text, definition text, proj4 text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    home text;
begin
    if authority not in ('EPSG', 'ESRI') or srid not between 1 and 998999 or length(definition) > 20000 or length(proj4) > 2000 then
        raise exception 'not a reference system that may be added: %:%', left(authority, 20), srid using errcode = 'invalid_parameter_value';
    end if;
    select n.nspname into strict home from pg_extension e join pg_namespace n on n.oid = e.extnamespace where e.extname = 'postgis';
    execute format('insert into %I.spatial_ref_sys (srid, auth_name, auth_srid, srtext, proj4text) values ($1, $2, $1, $3, $4) on conflict do nothing', home)
        using srid, authority, definition, proj4;
end
$$;
comment on function vector_staging.add_spatial_reference is 'Adds a reference system that this PostGIS lacks, under the number of its authority; what is there stays.';
revoke all on function vector_staging.add_spatial_reference from public;
grant execute on function vector_staging.add_spatial_reference to geo_pipeline;
