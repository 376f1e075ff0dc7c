"""What can be wrong with a file beyond the codes of geo_assets. INVALID: it is quarantined, and not tried again."""

from geo_assets.errors import ErrorClass, ErrorKind

NO_HEIGHTS = ErrorKind(
    ErrorClass.INVALID, "upload heights as one band of numbers, or leave the file out: --param 'exclude=PATTERN'"
)
