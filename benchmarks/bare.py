"""titiler as its documentation starts it: `uvicorn benchmarks.bare:app`, the competitor for tiles.

Here: its application. Not here: asking it (`served.py`).
"""

from fastapi import FastAPI
from titiler.core.errors import DEFAULT_STATUS_CODES, add_exception_handlers
from titiler.core.factory import TilerFactory

app = FastAPI()
app.include_router(TilerFactory().router)
add_exception_handlers(app, DEFAULT_STATUS_CODES)
