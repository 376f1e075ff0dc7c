"""What can be wrong with a file beyond the codes of geo_assets. INVALID: it is quarantined, and not tried again."""

from geo_assets.errors import ErrorClass, ErrorKind

NO_VALUES = ErrorKind(ErrorClass.INVALID, "upload a raster with valid pixels, then submit again")
