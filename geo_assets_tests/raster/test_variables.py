import os
from pathlib import Path

import h5py
import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from geo_assets.errors import GeoAssetsError
from geo_assets.raster import hdf5 as hdf5_module
from geo_assets.raster.cf_time import time_axis
from geo_assets.raster.cog import convert
from geo_assets.raster.models import ConvertRequest
from geo_assets.raster.variables import MAX_VARIABLES, variables
from geo_assets.raster.variables_models import VariablesReport, VariablesRequest
from geo_assets.sandbox.pool import SandboxPool
from geo_assets_tests.raster.hostile import flipped
from geo_assets_tests.raster.netcdf import LATITUDE, LONGITUDE, axes, grid, netcdf

SAMPLES = Path(os.environ.get("GEO_ASSETS_SAMPLES", "/nonexistent")) / "raster"


@pytest.fixture
def take_apart(tmp_path):
    """Takes a container apart, given as bytes or a path."""

    def take(content, name="in.nc"):
        source = content if isinstance(content, Path) else tmp_path / name
        if isinstance(content, bytes):
            source.write_bytes(content)
        folder = tmp_path / "variables"
        folder.mkdir()
        return variables(VariablesRequest(source=str(source), folder=str(folder)))

    return take


def numbers(*shape, dtype="f4"):
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def only(report):
    (variable,) = report.variables
    return variable


def code(variable):
    return variable.error["code"]


# --- NetCDF
# ----------------------------------------------------------------------------------------------------------------


def test_a_variable_with_a_time_axis_becomes_a_band_a_day_with_its_date(take_apart):
    values = numbers(3, 4, 5)
    variable = only(
        take_apart(
            grid("tas", values, {"units": "K", "long_name": "air temperature", "standard_name": "air_temperature"})
        )
    )
    assert [band.datetime for band in variable.bands] == [
        "2000-01-01T00:00:00Z",
        "2000-01-02T00:00:00Z",
        "2000-01-03T00:00:00Z",
    ]
    assert (variable.name, variable.unit, variable.title, variable.standard_name) == (
        "tas",
        "K",
        "air temperature",
        "air_temperature",
    )
    with rasterio.open(variable.path) as staged:
        np.testing.assert_array_equal(staged.read(), values)
        assert staged.crs == rasterio.CRS.from_epsg(4326)
        assert staged.transform == from_origin(9.5, 50.5, 1, 1)
        assert staged.tags(2)["DATETIME"] == "2000-01-02T00:00:00Z"
        assert staged.units == ("K", "K", "K")
        assert staged.block_shapes == [(512, 512)] * 3


def test_rows_from_south_to_north_are_turned_over_and_not_resampled(take_apart):
    values = numbers(4, 5)
    variable = only(take_apart(grid("tas", values, south_up=True)))
    with rasterio.open(variable.path) as staged:
        np.testing.assert_array_equal(staged.read(1), values[::-1])
        assert staged.transform == from_origin(9.5, 50.5, 1, 1)


def test_every_variable_becomes_a_file_and_what_serves_them_does_not(take_apart):
    shared = axes((4, 5))
    shared["lat"] = (["lat"], {**LATITUDE, "bounds": "lat_bnds"}, shared["lat"][2])
    bounds = np.stack([shared["lat"][2] + 0.5, shared["lat"][2] - 0.5], 1)
    report = take_apart(
        netcdf({**shared, "lat_bnds": (["lat", "two"], {}, bounds), "a": (["lat", "lon"], {}, numbers(4, 5)), "b": (["lat", "lon"], {}, numbers(4, 5, dtype="i2"))})
    )  # fmt: skip
    assert [(v.name, v.dtype) for v in report.variables] == [("a", "float32"), ("b", "int16")]
    assert report.auxiliary == ("lat_bnds",)
    assert len({v.path for v in report.variables}) == 2


def test_levels_and_times_are_one_band_each(take_apart):
    levels = {"lev": (["lev"], {"units": "hPa"}, np.array([1000.0, 500.0]))}
    variable = only(
        take_apart(
            netcdf({**axes((2, 4, 5)), **levels, "tas": (["time", "lev", "lat", "lon"], {}, numbers(2, 2, 4, 5))})
        )
    )
    assert [band.dimensions["lev"] for band in variable.bands] == ["1000 hPa", "500 hPa", "1000 hPa", "500 hPa"]
    assert variable.bands[3].description == "2000-01-02T00:00:00Z lev=500 hPa"


def test_packing_and_fill_value_are_kept_and_not_applied(take_apart):
    attributes = {"scale_factor": 0.5, "add_offset": 10.0, "_FillValue": np.int16(-9)}
    variable = only(take_apart(grid("t", numbers(4, 5, dtype="i2"), attributes)))
    assert (variable.scale, variable.offset, variable.nodata, variable.dtype) == (0.5, 10.0, -9, "int16")
    with rasterio.open(variable.path) as staged:
        assert (staged.scales, staged.offsets, staged.nodata) == ((0.5,), (10.0,), -9)
        assert staged.read().max() == 19


def test_coordinates_without_units_of_degrees_are_not_taken_for_longitude_and_latitude(take_apart):
    coordinates = {"lat": (["lat"], {}, 50.0 - np.arange(4)), "lon": (["lon"], {}, 10.0 + np.arange(5))}
    variable = only(take_apart(netcdf({**coordinates, "a": (["lat", "lon"], {}, numbers(4, 5))})))
    assert variable.epsg is None
    with rasterio.open(variable.path) as staged:
        assert staged.crs is None


@pytest.mark.parametrize("order", [["lon", "lat"], ["time", "lon", "lat"]])
def test_a_variable_whose_columns_are_latitudes_is_refused_and_told_how_to_turn_it(take_apart, order):
    sizes = {"lon": 6, "lat": 4, "time": 2}
    coordinates = {name: part for name, part in axes((2, 4, 6)).items() if name in order}
    values = numbers(*(sizes[name] for name in order))
    variable = only(take_apart(netcdf({"rain": (order, {}, values), **coordinates})))
    assert code(variable) == "RASTER_UNSUPPORTED"
    assert "the columns of rain of in.nc are latitudes (lat)" in variable.error["message"]
    assert "ncpdq -a lat,lon" in variable.error["remedy"]


def test_a_square_around_the_place_where_longitude_is_latitude_is_not_taken_for_turned(take_apart):
    coordinates = {"lat": (["lat"], LATITUDE, 13.0 - np.arange(4)), "lon": (["lon"], LONGITUDE, 10.0 + np.arange(4))}
    variable = only(take_apart(netcdf({**coordinates, "a": (["lat", "lon"], {}, numbers(4, 4))})))
    assert (variable.error, variable.epsg) == (None, 4326)


@pytest.mark.parametrize("fill", [{}, {"_FillValue": np.int16(-9)}])
@pytest.mark.parametrize("limits", [{"valid_range": np.array([5, 9], "i2")}, {"valid_min": np.int16(5)}])
def test_values_beyond_the_valid_range_are_kept_and_the_range_is_said(take_apart, fill, limits):
    variable = only(take_apart(grid("t", numbers(4, 5, dtype="i2"), {**limits, **fill})))
    with rasterio.open(variable.path) as staged:
        assert staged.read(1).ravel().tolist() == list(range(20))
    (note,) = [note for note in variable.notes if "valid" in note]
    assert note.startswith(f"its {next(iter(limits))} is 5")
    assert "are kept" in note


@pytest.mark.parametrize(
    ("dtype", "attributes", "told"),
    [
        ("i2", {"_FillValue": np.int16(-9), "missing_value": np.int16(7)}, "7"),
        ("i2", {"_FillValue": np.int16(-9), "missing_value": np.array([-9, 7], "i2")}, "7"),
        ("i2", {"_FillValue": np.int16(-9), "missing_value": np.int16(-9)}, None),
        ("i2", {"missing_value": np.int16(7)}, None),
        ("f4", {"_FillValue": np.float32(1e20), "missing_value": np.float32(1e20)}, None),
        ("f4", {"_FillValue": np.float32(1e20), "missing_value": 1e20}, None),
        ("f4", {"_FillValue": np.float32(np.nan), "missing_value": np.float32(7)}, "7"),
        ("f4", {"_FillValue": np.float32(np.nan), "missing_value": np.float32(np.nan)}, None),
        ("i1", {"_Unsigned": "true", "_FillValue": np.int8(-1), "missing_value": np.int8(-1)}, None),
    ],
)
def test_a_missing_value_beside_another_fill_value_is_kept_and_said(take_apart, dtype, attributes, told):
    variable = only(take_apart(grid("t", numbers(4, 5, dtype=dtype), attributes)))
    with rasterio.open(variable.path) as staged:
        assert staged.read(1).ravel().tolist() == list(range(20))
    notes = [note for note in variable.notes if "missing_value" in note]
    assert [note.startswith(f"its missing_value {told} ") for note in notes] == [True] * bool(told)


@pytest.mark.parametrize(
    "flags", [{"flag_values": np.array([10, 30, 61, 110], "i2")}, {"flag_masks": np.array([2, 4, 8], "i2")}]
)
@pytest.mark.parametrize("times", [1, 4])
def test_a_variable_with_flags_is_of_codes_however_many_times_it_has_and_its_legend_is_kept(
    take_apart, tmp_path, flags, times
):
    codes = np.random.default_rng(0).integers(0, 300, (times, 50, 60)).astype("i2")
    variable = only(take_apart(grid("lc", codes, {**flags, "flag_meanings": "crops trees shrubs"})))
    report = convert(ConvertRequest(source=variable.path, destination=str(tmp_path / "out.tif")))
    assert report.kind == "categorical"
    with rasterio.open(tmp_path / "out.tif") as cog:
        (values,) = flags.values()
        told = {item: cog.tags().get(item) for item in (*flags, "flag_meanings")}
        assert told == {next(iter(flags)): f"{{{','.join(map(str, values))}}}", "flag_meanings": "crops trees shrubs"}


def test_a_grid_mapping_gives_the_crs(take_apart):
    mapping = {
        "grid_mapping_name": "transverse_mercator", "latitude_of_projection_origin": 0.0, "longitude_of_central_meridian": -75.0,
        "scale_factor_at_central_meridian": 0.9996, "false_easting": 500000.0, "false_northing": 0.0, "semi_major_axis": 6378137.0,
        "inverse_flattening": 298.257223563,
    }  # fmt: skip
    x = (["x"], {"units": "m", "standard_name": "projection_x_coordinate"}, 500_000 + 1000.0 * np.arange(5))
    y = (["y"], {"units": "m", "standard_name": "projection_y_coordinate"}, 4_000_000 - 1000.0 * np.arange(4))
    content = netcdf(
        {
            "x": x,
            "y": y,
            "utm": ([], mapping, np.zeros((), "i4")),
            "z": (["y", "x"], {"grid_mapping": "utm"}, numbers(4, 5)),
        }
    )
    with rasterio.open(only(take_apart(content)).path) as staged:
        assert staged.crs.to_dict()["proj"] in {"utm", "tmerc"}
        assert staged.transform == from_origin(499_500, 4_000_500, 1000, 1000)


@pytest.mark.parametrize(
    "latitudes", [np.array([50, 49, 47.5, 47]), np.array([50, 49.02, 48.0, 46.99]), np.array([50.0, 49.0, 48.0, 46.95])], ids=["uneven", "inner", "last"]
)  # fmt: skip
def test_rows_that_are_not_evenly_spaced_are_refused_with_the_reason(take_apart, latitudes):
    coordinates = {"lat": (["lat"], LATITUDE, latitudes), "lon": (["lon"], LONGITUDE, 10.0 + np.arange(5))}
    variable = only(take_apart(netcdf({**coordinates, "a": (["lat", "lon"], {}, numbers(4, 5))})))
    assert code(variable) == "RASTER_UNSUPPORTED"
    assert "evenly spaced" in variable.error["message"]
    assert variable.path is None


def test_a_curvilinear_grid_is_refused_with_the_reason(take_apart):
    places = np.random.default_rng(1).random((2, 4, 5))
    coordinates = {"lat": (["y", "x"], LATITUDE, places[0]), "lon": (["y", "x"], LONGITUDE, places[1])}
    report = take_apart(netcdf({**coordinates, "a": (["y", "x"], {"coordinates": "lat lon"}, numbers(4, 5))}))
    assert code(only(report)) == "RASTER_UNSUPPORTED"
    assert "coordinates of its own" in only(report).error["message"]
    assert report.auxiliary == ("lat", "lon")


def test_one_bad_variable_does_not_spoil_the_others(take_apart):
    report = take_apart(
        netcdf({**axes((4, 5)), "good": (["lat", "lon"], {}, numbers(4, 5)), "list": (["n", "m"], {}, numbers(3, 2))})
    )
    assert {v.name: bool(v.path) for v in report.variables} == {"good": True, "list": False}


@pytest.mark.parametrize("name", ["a:b", 'a"b', "/etc/passwd", "../x", "a\nb", "x:/etc/passwd", 'in.nc":other'])
def test_a_name_cannot_choose_another_file_or_driver(take_apart, name):
    content = netcdf(
        {**axes((4, 5)), name: (["lat", "lon"], {}, numbers(4, 5)), "other": (["lat", "lon"], {}, numbers(4, 5))}
    )
    report = take_apart(content)
    assert [v.name for v in report.variables if v.path] == ["other"]
    assert {code(v) for v in report.variables if v.error} <= {"RASTER_UNSUPPORTED", "UNREADABLE"}


def test_the_name_of_the_file_may_be_anything(take_apart):
    variable = only(take_apart(grid("tas", numbers(4, 5)), "a\":b\n'.nc"))
    assert variable.path


def test_what_a_killed_call_left_is_not_in_the_way_of_the_next(tmp_path):
    (tmp_path / "in.nc").write_bytes(grid("tas", numbers(4, 5)))
    request = VariablesRequest(source=str(tmp_path / "in.nc"), folder=str(tmp_path))
    assert variables(request) == variables(request)
    assert {p.name for p in tmp_path.iterdir()} == {"in.nc", "001_tas.tif"}


def test_more_variables_than_the_limit_are_refused(take_apart):
    many = {f"v{n}": (["lat", "lon"], {}, numbers(2, 2)) for n in range(MAX_VARIABLES + 1)}
    with pytest.raises(GeoAssetsError) as caught:
        take_apart(netcdf({**axes((2, 2)), **many}))
    assert caught.value.code == "TOO_LARGE"
    assert "201" in caught.value.message


def test_more_bands_than_the_limit_are_refused(take_apart):
    assert code(only(take_apart(grid("t", numbers(1001, 2, 2))))) == "TOO_LARGE"


def test_a_variable_that_is_cut_off_is_unreadable(take_apart):
    content = grid("tas", numbers(40, 50))
    variable = only(take_apart(content[: len(content) - 3000]))
    assert code(variable) == "UNREADABLE"


@pytest.mark.parametrize(
    "magic", [b"CDF\x01", b"CDF\x02", b"CDF\x05", b"\x89HDF\r\n\x1a\n", b"GRIB\0\0\0\x02", b"II*\0"]
)
def test_noise_behind_the_first_bytes_is_unreadable(take_apart, magic):
    with pytest.raises(GeoAssetsError) as caught:
        take_apart(magic + np.random.default_rng(2).bytes(5000))
    assert caught.value.code in {"UNREADABLE", "RASTER_UNSUPPORTED"}


def test_a_staged_variable_becomes_a_cog(take_apart, tmp_path):
    values = numbers(2, 40, 50)
    variable = only(take_apart(grid("tas", values, {"units": "K"})))
    report = convert(ConvertRequest(source=variable.path, destination=str(tmp_path / "out.tif")))
    assert report.epsg == 4326
    assert [band.description for band in report.bands] == [band.description for band in variable.bands]
    with rasterio.open(tmp_path / "out.tif") as cog:
        np.testing.assert_array_equal(cog.read(), values)
        assert cog.tags(2)["DATETIME"] == "2000-01-02T00:00:00Z"


def test_a_global_grid_with_nodes_on_the_poles_becomes_a_cog(take_apart, tmp_path):
    latitudes, longitudes = 90 - 2.0 * np.arange(91), 2.0 * np.arange(180)  # as reanalyses and forecasts have them
    content = netcdf(
        {
            "lat": (["lat"], LATITUDE, latitudes),
            "lon": (["lon"], LONGITUDE, longitudes),
            "t": (["lat", "lon"], {}, numbers(91, 180)),
        }
    )
    convert(ConvertRequest(source=only(take_apart(content)).path, destination=str(tmp_path / "out.tif")))


def test_a_variable_larger_than_one_piece_is_copied_exactly(take_apart):
    values = np.random.default_rng(3).random((1100, 1300)).astype("f4")
    with rasterio.open(only(take_apart(grid("a", values))).path) as staged:
        np.testing.assert_array_equal(staged.read(1), values)


def test_it_runs_in_the_sandbox(tmp_path):
    with SandboxPool(tmp_path / "pool", timeout_seconds=60) as pool, pool.workspace() as folder:
        (folder / "in.nc").write_bytes(grid("tas", numbers(4, 5)))
        (folder / "out").mkdir()
        request = VariablesRequest(source=str(folder / "in.nc"), folder=str(folder / "out"))
        report = pool.call("geo_assets.raster.variables:variables", request, VariablesReport)
        assert Path(only(report).path).is_file()


# --- HDF5
# ------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def hdf5(tmp_path):
    """Makes an HDF5 file with latitudes and longitudes; `fill(file)` adds the rest."""

    def make(fill, **options):
        path = tmp_path / "in.h5"
        with h5py.File(path, "w", **options) as file:
            for name, values, unit in (
                ("lat", 50.0 - np.arange(4), "degrees_north"),
                ("lon", 10.0 + np.arange(5), "degrees_east"),
            ):
                file[name] = values
                file[name].attrs["units"] = np.bytes_(unit)
                file[name].make_scale(name)
            fill(file)
        return path

    return make


def placed(file, name):
    file[name].dims[0].attach_scale(file["lat"])
    file[name].dims[1].attach_scale(file["lon"])


@pytest.mark.parametrize("libver", ["earliest", "v110"])
def test_a_netcdf_4_file_is_read_like_a_classic_one(take_apart, hdf5, libver):
    def fill(file):
        file.create_dataset("a", data=numbers(4, 5), chunks=(2, 5), compression="gzip")
        placed(file, "a")
        file.create_group("g").create_dataset("b", data=numbers(4, 5))

    report = take_apart(hdf5(fill, libver=libver))
    found = {v.name: v for v in report.variables}
    assert found["a"].epsg == 4326
    with rasterio.open(found["a"].path) as staged:
        np.testing.assert_array_equal(staged.read(1), numbers(4, 5))
    assert code(found["/g/b"]) == "RASTER_UNSUPPORTED"


@pytest.mark.parametrize("libver", ["earliest", "v110"])
@pytest.mark.parametrize("way", ["raw values", "virtual dataset", "link", "link among many"])
def test_an_hdf5_file_that_is_made_of_other_files_is_refused_before_it_is_opened(
    take_apart, hdf5, tmp_path, way, libver
):
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["d"] = np.full((4, 5), 77, "u1")

    def fill(file):
        if way == "raw values":
            file.create_dataset("v", (4, 5), "u1", external=[(str(secret), 0, 20)])
            placed(file, "v")
        elif way == "virtual dataset":
            layout = h5py.VirtualLayout((4, 5), "u1")
            layout[...] = h5py.VirtualSource(str(secret), "d", shape=(4, 5))
            file.create_virtual_dataset("v", layout)
            placed(file, "v")
        else:
            for number in range(100 if way == "link among many" else 0):
                file[f"n{number}"] = 1
            file["v"] = h5py.ExternalLink(str(secret), "d")

    with pytest.raises(GeoAssetsError) as caught:
        take_apart(hdf5(fill, libver=libver))
    assert caught.value.code == "RASTER_UNSUPPORTED"
    assert "not followed" in caught.value.message


def test_random_values_are_not_taken_for_links(take_apart, hdf5):
    values = np.random.default_rng(4).integers(0, 255, (4, 5), "uint8")
    noise = np.random.default_rng(5).integers(0, 255, 30_000_000, "uint8")

    def fill(file):
        file["a"] = values
        placed(file, "a")
        file["noise"] = noise

    assert {v.name for v in take_apart(hdf5(fill)).variables if v.path} == {"a"}


@pytest.mark.parametrize("before", [0, 1, 8, 16 * 1024**2 - 20, 16 * 1024**2 + 3])
def test_a_message_of_another_file_is_found_wherever_it_stands(tmp_path, before):
    path = tmp_path / "in.h5"
    head = hdf5_module.SIGNATURE + bytes([2, 8, 8, 0]) + bytes(36) + b"HEAP" + bytes(4)
    body = b"\7\x18\0\0" + b"\1\0\0\0" + (1).to_bytes(2, "little") * 2 + head.index(b"HEAP").to_bytes(8, "little")
    path.write_bytes(head + bytes(before) + body)
    with pytest.raises(GeoAssetsError, match="another file"):
        hdf5_module.refuse_other_files(path)


@pytest.mark.parametrize("seed", range(3))
def test_flipped_bits_in_a_container_end_in_a_report_or_a_code_and_never_in_a_fault_of_ours(tmp_path, hdf5, seed):
    rng = np.random.default_rng(seed)
    honest = hdf5(
        lambda file: (
            file.create_dataset("a", data=numbers(4, 5), chunks=(2, 5), compression="gzip"),
            placed(file, "a"),
        )
    )
    containers = {
        "in.h5": honest.read_bytes(),
        "in.nc": grid("a", numbers(3, 40, 50)),
        "in.grib2": grib(tmp_path / "g", numbers(2, 4, 5)).read_bytes(),
    }
    codes = set()
    with SandboxPool(tmp_path / "pool", memory_mb=2048, file_mb=64, timeout_seconds=10) as pool:
        for name, whole in containers.items():
            for zone in (300, 1500, len(whole), len(whole)):
                with pool.workspace() as folder:
                    (folder / name).write_bytes(flipped(whole, rng, 4, 4, min(zone, len(whole))))
                    request = VariablesRequest(source=str(folder / name), folder=str(folder))
                    try:
                        report = pool.call("geo_assets.raster.variables:variables", request, VariablesReport)
                        codes |= {code(v) for v in report.variables if v.error}
                    except GeoAssetsError as error:
                        codes.add(error.code)
    assert codes <= {
        "UNREADABLE",
        "UNSUPPORTED_FORMAT",
        "RASTER_UNSUPPORTED",
        "TOO_LARGE",
        "SANDBOX_CRASHED",
        "SANDBOX_TIMEOUT",
        "SANDBOX_OUT_OF_MEMORY",
    }


# --- GRIB, TIFF
# ------------------------------------------------------------------------------------------------------------


def grib(path: Path, values: np.ndarray, **options: str) -> Path:
    profile = {
        "driver": "GTiff",
        "count": len(values),
        "height": values.shape[1],
        "width": values.shape[2],
        "dtype": "float32",
    }
    plain = path.with_suffix(".tif")
    with rasterio.open(plain, "w", crs="EPSG:4326", transform=from_origin(9.5, 50.5, 1, 1), **profile) as dataset:
        dataset.write(values)
    with rasterio.open(plain) as dataset:
        rasterio.shutil.copy(
            dataset, path, driver="GRIB", DATA_ENCODING="IEEE_FLOATING_POINT", INPUT_UNIT="K", **options
        )
    return path


def test_fields_of_a_grib_are_grouped_by_element_and_kind_of_level_with_their_times(take_apart, tmp_path):
    ids = (
        "CENTER=7(US-NCEP) SUBCENTER=0 MASTER_TABLE=2 LOCAL_TABLE=0 SIGNF_REF_TIME=1(Start_of_Forecast)"
        " REF_TIME=2020-06-01T00:00:00Z PROD_STATUS=0 TYPE=1"
    )
    temperature = "0 0 2 0 96 0 0 1 {hours} 103 0 2 255 -127 -2147483647"
    wind = "2 2 2 0 96 0 0 1 0 103 0 10 255 -127 -2147483647"
    options = {"IDS": ids, "DISCIPLINE": "0", "PDS_PDTN": "0"}
    options |= {
        f"BAND_{n}_PDS_TEMPLATE_ASSEMBLED_VALUES": t
        for n, t in ((1, temperature.format(hours=6)), (2, temperature.format(hours=12)), (3, wind))
    }
    values = 280 + numbers(3, 4, 5)
    report = take_apart(grib(tmp_path / "in.grib2", values, **options))
    assert [(v.name, len(v.bands)) for v in report.variables] == [("TMP HTGL", 2), ("UGRD HTGL", 1)]
    assert [band.datetime for band in report.variables[0].bands] == ["2020-06-01T06:00:00Z", "2020-06-01T12:00:00Z"]
    assert report.variables[0].unit == "K"
    with rasterio.open(report.variables[0].path) as staged:
        np.testing.assert_array_equal(staged.read(), values[:2])
        assert staged.crs.is_geographic
        assert staged.transform.almost_equals(from_origin(9.5, 50.5, 1, 1), 1e-6)


def test_each_image_of_a_tiff_becomes_a_file_with_its_mask_and_palette(take_apart, tmp_path):
    path = tmp_path / "in.tif"
    profile = {"driver": "GTiff", "count": 1, "height": 8, "width": 8, "dtype": "uint8", "crs": "EPSG:32618"}
    for number in range(2):
        options = {"APPEND_SUBDATASET": "YES"} if number else {}
        with rasterio.open(path, "w", transform=from_origin(5e5, 4e6 + number, 10, 10), **profile, **options) as page:
            page.write(np.full((1, 8, 8), number + 1, "uint8"))
            page.write_colormap(1, {1: (9, 9, 9, 255), 2: (8, 8, 8, 255)})
    report = take_apart(path)
    assert [v.name for v in report.variables] == ["image 1", "image 2"]
    with rasterio.open(report.variables[1].path) as staged:
        assert staged.read(1).max() == 2
        assert staged.colormap(1)[2] == (8, 8, 8, 255)
        assert staged.transform.f == 4e6 + 1
        assert staged.crs.to_epsg() == 32618


def test_what_is_no_container_is_refused(take_apart):
    with pytest.raises(GeoAssetsError) as caught:
        take_apart(b"ncols 2\n")
    assert caught.value.code == "UNSUPPORTED_FORMAT"


# --- time
# ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("units", "calendar", "value", "moment"),
    [
        ("days since 2000-01-01", "standard", 1.5, "2000-01-02T12:00:00Z"),
        ("hours since 1900-01-01 00:00:0.0", "gregorian", 1_000_000, "2014-01-29T16:00:00Z"),
        ("seconds since 1970-01-01T00:00:00Z", "", 1e9, "2001-09-09T01:46:40Z"),
        ("seconds since 1970-01-01 02:00:00 +02:00", "", 0, "1970-01-01T00:00:00Z"),
        ("minutes since 2020-02-28 23:30", "proleptic_gregorian", 30, "2020-02-29T00:00:00Z"),
        (
            "days since 1-1-1 00:00:00",
            "",
            737_791,
            "2020-12-31T00:00:00Z",
        ),  # two days before what Python's calendar says
        ("days since 0001-01-01", "proleptic_gregorian", 737_791, "2021-01-02T00:00:00Z"),
        ("days since 1582-10-04", "standard", 1, "1582-10-15T00:00:00Z"),
        ("days since 2001-02-28", "noleap", 366, "2002-03-01T00:00:00Z"),
        ("days since 2000-01-01", "julian", 0, "2000-01-14T00:00:00Z"),
        ("days since 2000-01-01", "standard", float("nan"), None),
        ("days since 2000-01-01", "standard", 1e30, None),
    ],
)
def test_a_number_since_a_date_becomes_a_moment(units, calendar, value, moment):
    assert time_axis(units, calendar).moment(value) == moment


@pytest.mark.parametrize(
    ("units", "calendar"),
    [
        ("months since 2000-01-01", ""),
        ("days since 2000-01-01", "360_day"),
        ("K", ""),
        ("days since yesterday", ""),
        ("days since 2000-13-01", ""),
    ],
)
def test_what_has_no_moment_in_utc_is_left_undated(units, calendar):
    assert time_axis(units, calendar) is None


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="GEO_ASSETS_SAMPLES is not set")
def test_the_sample_is_copied_exactly(take_apart):
    for source in SAMPLES.glob("*.nc"):
        variable = only(take_apart(source))
        with rasterio.open(source, driver="netCDF") as ours, rasterio.open(variable.path) as staged:
            np.testing.assert_array_equal(ours.read(), staged.read())
            assert (ours.scales, ours.offsets, ours.nodata, ours.crs) == (
                staged.scales,
                staged.offsets,
                staged.nodata,
                staged.crs,
            )
