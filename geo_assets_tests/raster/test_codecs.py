"""Blocks of a COG: the same tile is the same bytes, wherever it is encoded."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

#: Tiles at the right edge of rasters of noise, of which ISA-L's lower levels make one in a thousand otherwise.
_ENCODE = """
import hashlib
import numpy as np
from geo_assets.raster.codecs import candidates
for seed in range(200):
    tile = np.random.default_rng(seed).integers(0, 255, (3, 512, 88)).astype("uint8")
    tile = np.pad(tile, [(0, 0), (0, 0), (0, 424)], mode="edge")
    for codec in candidates("DEFLATE", "STANDARD"):
        print(hashlib.sha256(codec.encode(tile)).hexdigest())
"""


def test_the_same_tiles_are_the_same_bytes_in_every_process():
    def encoded(_):
        done = subprocess.run([sys.executable, "-c", _ENCODE], capture_output=True, text=True, check=True)
        return done.stdout.splitlines()

    with ThreadPoolExecutor(2) as pool:
        first, *others = pool.map(encoded, range(8))
    for other in others:
        assert [n for n, (a, b) in enumerate(zip(first, other, strict=True)) if a != b] == []
