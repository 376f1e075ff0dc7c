"""Large files to Azure Storage in blocks: several at a time, and after a cut only those that are not there yet.

Here: cutting, naming, sending, and committing. A block is named after its place and its bytes, so whatever of it is
found uncommitted, by whichever process, is the same. Not here: small files, which are one request (`containers.py`).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

#: Bytes from which a file is uploaded so.
LARGE = 64 * 1024 * 1024

#: Bytes of a block, unless the file is so large that it would have more than Azure's most of them.
_BLOCK = 8 * 1024 * 1024
_MOST_BLOCKS = 50_000

#: Blocks under way: the memory of an upload is this many of them.
_AT_ONCE = 4

#: Characters of a block's name. Azure wants all of a blob to be of one length, and obstore's are of this one.
_NAME = 20


def upload_in_blocks(client: Any, source: Path, attributes: Mapping[str, str]) -> int:
    """Upload a file; the blob appears when all of it is there. Returns how many blocks were sent.

    Args:
        client: the SDK's client of the blob.
        source: the file, which nobody may write meanwhile.
        attributes: `Content-Type` and `Cache-Control`, each if it is to be stored.

    Raises:
        azure.core.exceptions.AzureError: the store does not answer, or refuses; what was sent is not sent again.
        OSError: the file cannot be read.
    """
    from azure.storage.blob import BlobBlock, ContentSettings

    size = source.stat().st_size
    length = max(_BLOCK, -(-size // _MOST_BLOCKS))
    there = _uncommitted(client)
    with source.open("rb") as file, ThreadPoolExecutor(_AT_ONCE) as threads:

        def send(index: int) -> tuple[str, bool]:
            data = os.pread(file.fileno(), length, index * length)
            name = f"{index:05}{hashlib.sha256(data).hexdigest()}"[:_NAME]
            if name in there:
                return name, False
            client.stage_block(name, data, length=len(data))
            return name, True

        pending = [threads.submit(send, index) for index in range(-(-size // length))]
        try:
            sent = [future.result() for future in pending]
        except BaseException:
            threads.shutdown(wait=True, cancel_futures=True)
            raise
    kept = ContentSettings(content_type=attributes.get("Content-Type"), cache_control=attributes.get("Cache-Control"))
    client.commit_block_list([BlobBlock(name) for name, _ in sent], content_settings=kept)
    return sum(new for _, new in sent)


def _uncommitted(client: Any) -> frozenset[str]:
    """Return the names of the blocks that an upload which did not end has left."""
    from azure.core.exceptions import ResourceNotFoundError

    try:
        _, blocks = client.get_block_list("uncommitted")
    except ResourceNotFoundError:
        return frozenset()
    return frozenset(block.id for block in blocks)
