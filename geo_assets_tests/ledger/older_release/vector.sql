CREATE TABLE vector.older_layers_one (
    gid bigint NOT NULL,
    fid bigint,
    name text,
    geom public.geometry(Point,4326)
);
COMMENT ON TABLE vector.older_layers_one IS 'default/older/layers.gpkg, layer one';
COMMENT ON COLUMN vector.older_layers_one.fid IS 'fid';
COMMENT ON COLUMN vector.older_layers_one.name IS 'name';
ALTER TABLE vector.older_layers_one ALTER COLUMN gid ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME vector.older_layers_one_gid_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE vector.older_layers_two (
    gid bigint NOT NULL,
    fid bigint,
    n bigint,
    geom public.geometry(MultiPolygon,4326)
);
COMMENT ON TABLE vector.older_layers_two IS 'default/older/layers.gpkg, layer two';
COMMENT ON COLUMN vector.older_layers_two.fid IS 'fid';
COMMENT ON COLUMN vector.older_layers_two.n IS 'n';
ALTER TABLE vector.older_layers_two ALTER COLUMN gid ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME vector.older_layers_two_gid_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE vector_waiting.stopped_kept__6e8773f3 (
    gid bigint NOT NULL,
    n integer,
    geom public.geometry(Point,4326)
);
COMMENT ON TABLE vector_waiting.stopped_kept__6e8773f3 IS 'default/stopped/kept.geojson';
COMMENT ON COLUMN vector_waiting.stopped_kept__6e8773f3.n IS 'n';
ALTER TABLE vector_waiting.stopped_kept__6e8773f3 ALTER COLUMN gid ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME vector_waiting.stopped_kept__6e8773f3_gid_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
INSERT INTO vector.older_layers_one OVERRIDING SYSTEM VALUE VALUES (1, 1, 'a', '0101000020E610000000000000000014400000000000004940');
INSERT INTO vector.older_layers_one OVERRIDING SYSTEM VALUE VALUES (2, 2, 'b', '0101000020E610000000000000000015400000000000204940');
INSERT INTO vector.older_layers_one OVERRIDING SYSTEM VALUE VALUES (3, 3, 'c', '0101000020E610000000000000000016400000000000404940');
INSERT INTO vector.older_layers_one OVERRIDING SYSTEM VALUE VALUES (4, 4, 'd', '0101000020E610000000000000000017400000000000604940');
INSERT INTO vector.older_layers_one OVERRIDING SYSTEM VALUE VALUES (5, 5, 'e', '0101000020E610000000000000000018400000000000804940');
INSERT INTO vector.older_layers_two OVERRIDING SYSTEM VALUE VALUES (1, 1, 1, '0106000020E6100000010000000103000000010000000500000000000000000000000000000000000000000000000000F03F0000000000000000000000000000F03F000000000000F03F0000000000000000000000000000F03F00000000000000000000000000000000');
INSERT INTO vector.older_layers_two OVERRIDING SYSTEM VALUE VALUES (2, 2, 2, '0106000020E61000000200000001030000000100000004000000000000000000F03F000000000000F03F0000000000000040000000000000004000000000000000400000000000000000000000000000F03F000000000000F03F010300000001000000040000000000000000000000000000000000000000000000000000000000000000000040000000000000F03F000000000000F03F00000000000000000000000000000000');
INSERT INTO vector_waiting.stopped_kept__6e8773f3 OVERRIDING SYSTEM VALUE VALUES (1, 0, '0101000020E610000000000000000014400000000000004940');
INSERT INTO vector_waiting.stopped_kept__6e8773f3 OVERRIDING SYSTEM VALUE VALUES (2, 1, '0101000020E610000000000000000016400000000000404940');
INSERT INTO vector_waiting.stopped_kept__6e8773f3 OVERRIDING SYSTEM VALUE VALUES (3, 2, '0101000020E610000000000000000018400000000000804940');
SELECT pg_catalog.setval('vector.older_layers_one_gid_seq', 5, true);
SELECT pg_catalog.setval('vector.older_layers_two_gid_seq', 2, true);
SELECT pg_catalog.setval('vector_waiting.stopped_kept__6e8773f3_gid_seq', 3, true);
ALTER TABLE ONLY vector.older_layers_one
    ADD CONSTRAINT older_layers_one_pkey PRIMARY KEY (gid);
ALTER TABLE ONLY vector.older_layers_two
    ADD CONSTRAINT older_layers_two_pkey PRIMARY KEY (gid);
ALTER TABLE ONLY vector_waiting.stopped_kept__6e8773f3
    ADD CONSTRAINT stopped_kept__6e8773f3_pkey PRIMARY KEY (gid);
CREATE INDEX older_layers_one_geom_idx ON vector.older_layers_one USING gist (geom);
CREATE INDEX older_layers_two_geom_idx ON vector.older_layers_two USING gist (geom);
CREATE INDEX stopped_kept__6e8773f3_i ON vector_waiting.stopped_kept__6e8773f3 USING gist (geom);
GRANT SELECT ON TABLE vector.older_layers_one TO geo_reader;
GRANT SELECT ON TABLE vector.older_layers_two TO geo_reader;
GRANT SELECT ON TABLE vector_waiting.stopped_kept__6e8773f3 TO geo_reader;
