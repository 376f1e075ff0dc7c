"""Which stages take a source, by its kind and by what it holds."""

import pytest

from geo_assets.file_stages import COGS, FILE_STAGES, TABLES
from geo_assets.parameters import StageRaster, StageVector
from geo_assets.stages.files import refuse_source, stages_of
from geo_assets.storage.kinds import Kind
from geo_assets.storage.sources import Member, Source, sorted_sources


def source(kind, *holds, path="a"):
    return Source(path=path, kind=kind, members=(Member(path=path, size=1, etag="e", holds=holds or None),))


@pytest.mark.parametrize(
    ("of", "taken_by"),
    [
        (source(Kind.RASTER), (COGS,)),
        (source(Kind.VECTOR), (TABLES,)),
        (source(Kind.VECTOR, Kind.RASTER), (COGS,)),
        (source(Kind.VECTOR, Kind.VECTOR, Kind.RASTER), (COGS, TABLES)),
        (source(Kind.ZIP, Kind.RASTER), (COGS,)),
        (source(Kind.ZIP, Kind.RASTER, Kind.VECTOR), (COGS, TABLES)),
        (source(Kind.ZIP), (TABLES,)),
        (source(Kind.COMPANION), ()),
        (source(Kind.UNSUPPORTED), ()),
        (source(Kind.SIDECAR), ()),
    ],
)
def test_a_source_goes_to_the_stages_whose_engine_reads_what_it_holds(of, taken_by):
    assert stages_of(of, FILE_STAGES) == taken_by
    assert stages_of(of, StageRaster.stages) == tuple(stage for stage in taken_by if stage == COGS)
    assert stages_of(of, StageVector.stages) == tuple(stage for stage in taken_by if stage == TABLES)


@pytest.mark.parametrize(
    ("journal", "size", "code"), [("-wal", 1, "UNREADABLE"), ("-journal", 1, None), ("-wal", 0, None)]
)
def test_a_database_is_refused_where_a_journal_beside_it_holds_changes(context, journal, size, code):
    members = [Member(path="a/x.gpkg", size=9, etag="e"), Member(path=f"a/x.gpkg{journal}", size=size, etag="e")]
    (database,) = sorted_sources(members)
    error = refuse_source(context, database)
    assert (error.code if error else None) == code
    assert error is None or f"a/x.gpkg is being written to: x.gpkg{journal} holds changes" in str(error)
