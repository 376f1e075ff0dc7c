"""What can be wrong with a file beyond the codes of geo_assets. INVALID: it is quarantined, and not tried again."""

from geo_assets.errors import ErrorClass, ErrorKind

NOTHING_TO_DRAW = ErrorKind(
    ErrorClass.INVALID, "see why the file became no table with geometry: geo-assets tasks JOB_ID; then submit again"
)
