"""Texts that GDAL reads whole whenever it opens them: they are read once, while we look at them, and lose nothing."""

import pyogrio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from geo_assets.vector.reader.sources import prepare

KML = '<kml xmlns="http://www.opengis.net/kml/2.2">%s</kml>'
PLACE = "<Point><coordinates>1,2</coordinates></Point>"
SCHEMA = '<Schema name="s" id="s"><SimpleField name="n" type="int"/></Schema>'
TYPED = (
    '<Placemark><ExtendedData><SchemaData schemaUrl="#s"><SimpleData name="n">%s</SimpleData></SchemaData>'
    f"</ExtendedData>{PLACE}</Placemark>"
)
LEAVES = st.sampled_from([
    f"<Placemark>{PLACE}</Placemark>", f'<Placemark id="a&gt;b">{PLACE}</Placemark >', "<Placemark/>",
    f"<Placemark><name>Folder</name><MultiGeometry>{PLACE}{PLACE}</MultiGeometry></Placemark>",
    '<Style id="s"><LineStyle><width>2</width></LineStyle></Style>', "<!-- <Placemark> -->", TYPED % 1,
    f"<Placemark><description><![CDATA[</Placemark><Folder>]]></description>{PLACE}</Placemark>",
    "<GroundOverlay><name>o</name></GroundOverlay>", "<name>three</name>", "<Placemark/>", "<Placemark/>",
])  # fmt: skip
NAMES = st.sampled_from(["", "<name>one</name>", "<name>two</name>", "<name>a &amp; b</name>"])


def container(children):
    """Folders and documents of some children; their names may come last, and are not always there."""
    inner = st.tuples(NAMES, st.lists(children, max_size=5), NAMES).map(
        lambda t: t[0] + "".join(t[1]) + t[2] * (not t[0])
    )
    return st.tuples(st.sampled_from(["Folder", "Document"]), inner).map(lambda t: f"<{t[0]}>{t[1]}</{t[0]}>")


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.one_of(LEAVES, container(st.recursive(LEAVES, container, max_leaves=12))))
def test_a_kml_has_the_layers_that_gdal_lists_of_all_of_it(tmp_path_factory, body):
    path = tmp_path_factory.mktemp("kml") / "data.kml"
    path.write_text(KML % body)
    (dataset,) = prepare(path, max_unpacked_bytes=1).datasets
    try:
        expected = tuple((str(name), kind) for name, kind in pyogrio.list_layers(path))
    except pyogrio.errors.DataSourceError:
        expected = None
    assert (dataset.listing.kinds if dataset.listing else None) == expected


@pytest.mark.parametrize("order", [(SCHEMA, TYPED), (TYPED, SCHEMA)], ids=["before", "after"])
def test_a_column_is_of_the_type_that_a_kml_declares_before_its_features_or_after_them(tmp_path, load, db, order):
    path = tmp_path / "a.kml"
    path.write_text(KML % "<Document>%s</Document>" % "".join(order).replace(TYPED, TYPED % 7 + TYPED % "x"))
    loaded = load(path, "kml_declared")
    assert db.rows("select n, pg_typeof(n)::text from {t} order by gid", t=loaded.table) == [
        (7, "integer"),
        (None, "integer"),
    ]


def test_to_list_its_layers_gdal_opens_a_copy_of_a_kml_that_is_small(tmp_path, look, monkeypatch):
    path = tmp_path / "a.kml"
    mark = f"<Placemark><name>{80 * 'x'}</name>{PLACE}</Placemark>"
    path.write_text(KML % f"<Folder>{5000 * mark}</Folder>")
    listed, read_info = [], pyogrio.read_info

    def measured(file, **options):
        listed.append(file.stat().st_size)
        return read_info(file, **options)

    monkeypatch.setattr(pyogrio, "read_info", measured)
    assert look(path).layers[0].feature_count == 5000
    assert len(listed) == 1
    assert listed[0] < path.stat().st_size / 8
