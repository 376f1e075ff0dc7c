"""The tiling schemes of all services of tiles.

Here: which there are. Not here: tiles (`tiles.py`, `features.py`).
"""

from __future__ import annotations

from morecantile.defaults import TileMatrixSets, default_tms

#: That of UTM 31 covers no longitude whole, so its first tile ends in infinity.
SCHEMES = TileMatrixSets({name: told for name, told in default_tms.items() if name != "UTM31WGS84Quad"})
