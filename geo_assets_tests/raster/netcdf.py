"""NetCDF classic files, byte by byte: the GDAL of rasterio's wheels cannot write them, and a library for the tests is
not worth it.

Source: The NetCDF Classic Format Specification,
https://docs.unidata.ucar.edu/nug/current/file_format_specifications.html
"""

import struct
from typing import Any

import numpy as np

_TYPES = {"i1": 1, "S1": 2, "i2": 3, "i4": 4, "f4": 5, "f8": 6}

#: name -> (dimensions, attributes, values)
Variables = dict[str, tuple[list[str], dict[str, Any], np.ndarray]]

LATITUDE = {"units": "degrees_north"}
LONGITUDE = {"units": "degrees_east"}


def grid(name: str, values: np.ndarray, attributes: dict[str, Any] | None = None, *, south_up: bool = False) -> bytes:
    """One variable on latitudes 50, 49, … and longitudes 10, 11, …; a third dimension is days since 2000-01-01."""
    return netcdf(
        {
            name: (["time", "lat", "lon"][-values.ndim :], attributes or {}, values),
            **axes(values.shape, south_up=south_up),
        }
    )


def axes(shape: tuple[int, ...], *, south_up: bool = False) -> Variables:
    latitudes = 50.0 - np.arange(shape[-2])
    coordinates: Variables = {
        "lat": (["lat"], LATITUDE, latitudes[::-1].copy() if south_up else latitudes),
        "lon": (["lon"], LONGITUDE, 10.0 + np.arange(shape[-1])),
    }
    if len(shape) == 3:
        coordinates["time"] = (["time"], {"units": "days since 2000-01-01"}, np.arange(shape[0], dtype="f8"))
    return coordinates


def netcdf(variables: Variables, attributes: dict[str, Any] | None = None) -> bytes:
    """A file in the classic format; dimensions follow from the shapes."""
    sizes: dict[str, int] = {}
    for dimensions, _, values in variables.values():
        sizes.update(zip(dimensions, values.shape, strict=True))
    offsets = [0] * len(variables)
    start = len(_head(sizes, variables, attributes or {}, offsets))
    body = b""
    for number, (_, _, values) in enumerate(variables.values()):
        offsets[number] = start + len(body)
        body += _padded(values.astype(values.dtype.newbyteorder(">")).tobytes())
    return _head(sizes, variables, attributes or {}, offsets) + body


def _head(sizes: dict[str, int], variables: Variables, attributes: dict[str, Any], offsets: list[int]) -> bytes:
    head = b"CDF\x01" + bytes(4)
    head += struct.pack(">II", 10, len(sizes)) + b"".join(_name(n) + struct.pack(">I", s) for n, s in sizes.items())
    head += _attributes(attributes) + struct.pack(">II", 11, len(variables))
    for (name, (dimensions, own, values)), offset in zip(variables.items(), offsets, strict=True):
        places = b"".join(struct.pack(">I", list(sizes).index(d)) for d in dimensions)
        head += _name(name) + struct.pack(">I", len(dimensions)) + places + _attributes(own)
        head += struct.pack(">III", _TYPES[values.dtype.str[1:]], len(_padded(values.tobytes())), offset)
    return head


def _attributes(attributes: dict[str, Any]) -> bytes:
    head = struct.pack(">II", 12, len(attributes)) if attributes else bytes(8)
    return head + b"".join(_name(name) + _values(value) for name, value in attributes.items())


def _values(value: Any) -> bytes:
    if isinstance(value, str):
        return struct.pack(">II", 2, len(value.encode())) + _padded(value.encode())
    array = np.atleast_1d(value)
    array = array.astype("i4") if array.dtype == np.int64 else array
    return struct.pack(">II", _TYPES[array.dtype.str[1:]], array.size) + _padded(
        array.astype(array.dtype.newbyteorder(">")).tobytes()
    )


def _name(name: str) -> bytes:
    return struct.pack(">I", len(name.encode())) + _padded(name.encode())


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
