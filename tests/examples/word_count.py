"""Counts words in gzipped JSON lines.

    python word_count.py 'FOLDER/*.json.gz'      each line is an object with a "text"
"""

import json
import sys

import dask.bag as db
import ray
from ray.util.dask import enable_dask_on_ray

ray.init()
enable_dask_on_ray()

records = db.read_text(sys.argv[1]).map(json.loads)
words = records.pluck("text").map(str.lower).map(str.split).flatten()
print("lines:", records.count().compute())
for word, count in words.frequencies().topk(5, key=lambda pair: (pair[1], pair[0])).compute():
    print(word, count)
