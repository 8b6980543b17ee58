"""A job as one might have: read objects, make others of them, store them in one shard."""

from __future__ import annotations

import io
import os
import tarfile

from aistore.sdk import Client


def pack_upper(bucket_name: str, prefix: str, shard: str) -> int:
    """Put all objects under `prefix`, in upper case, into one tar. Returns how many."""
    client = Client(os.environ["AIS_ENDPOINT"])
    bucket = client.bucket(bucket_name)
    names = [entry.name for entry in bucket.list_all_objects(prefix=prefix)]
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name in names:
            data = bucket.object(name).get_reader().read_all().upper()
            member = tarfile.TarInfo(name.removeprefix(prefix))
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    if names:
        bucket.object(shard).get_writer().put_content(packed.getvalue())
    return len(names)
