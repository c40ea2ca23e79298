"""Bulk inference: any number of images, by processes or a Ray cluster, into Parquet files.

    from retinaface_tf.bulk import detect_bulk, read_results

    detect_bulk(["photos/", "shards/*.tar", "table.parquet"], "faces/", engine="processes")
    for result in read_results("faces/"):
        ...

`shards` makes the shards of the inputs, `tar` and `table` read packed images, `worker` detects the faces
of a shard and repeats it after a crash (`attempts`), `processes` and `ray_data` run workers, `manifest`
resumes, `results` writes and reads the Parquet files.
"""

from retinaface_tf.bulk.results import Result, read_results
from retinaface_tf.bulk.run import BulkReport, detect_bulk

__all__ = ["BulkReport", "Result", "detect_bulk", "read_results"]
