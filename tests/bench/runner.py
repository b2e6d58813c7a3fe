"""One contender's part of the benchmark, in a process of its own: runs rows and prints a JSON line for each.

    python runner.py CONTENDER ROW [ROW ...]

"start" is a row too: always the first, it times the way from an imported module to the first result.
"""

from __future__ import annotations

import json
import sys
import time
import traceback

import pipelines
import workloads
from contenders import ALL

# Rows by name: the workload, its size, how often it is repeated at most, and for at most how many seconds.
ROWS = {
    "fan-in 8,192": (workloads.fan_in, 8192, 9, 30),
    "fan-in, metrics polled": (workloads.polled_fan_in, 8192, 3, 20),
    "scheduler alone": (workloads.null_fan_in, 8192, 15, 20),
    "tree 16,383": (workloads.tree, 16384, 7, 30),
    "chain 300": (workloads.chain, 300, 15, 20),
    "single graph": (workloads.single, 200, 3, 20),
    "ray.get(f.remote())": (workloads.one_call, 300, 3, 20),
    "5,000 f.remote()": (workloads.many_calls, 5000, 7, 20),
    "put/get 100 MB": (workloads.put_and_get, 12, 1, 60),
    "array 8000²": (workloads.array_expression, 8000, 5, 40),
    "delayed 20,000": (pipelines.delayed_graph, 20_000, 5, 40),
    "graph beside calls": (pipelines.graph_beside_calls, 4_000, 5, 40),
    "24 climate files": (pipelines.climate_files, 24, 3, 90),
    "10,000 inputs": (workloads.many_inputs, 10_000, 5, 20),
    "10,000 readers": (workloads.many_readers, 10_000, 5, 20),
    "set_index 1 GiB, 32 parts": (workloads.set_index, (1024, 32), 3, 120),
    "set_index 64 MiB, 100 parts": (workloads.set_index, (64, 100), 3, 60),
    "fan-in 100,000": (workloads.fan_in, 100_000, 3, 60),
    "fan-in 1,000,000": (workloads.million, 1_000_000, 1, 120),
}


def say(row: str, **fields: object) -> None:
    print(json.dumps({"row": row, **fields}), flush=True)


def main() -> int:
    contender = ALL[sys.argv[1]]()
    start = time.perf_counter()
    contender.start()
    ready = time.perf_counter()
    workloads.must_equal(contender.get({"x": (workloads.increment, 1)}, "x"), contender.first_result)
    first = time.perf_counter()
    time.sleep(1)
    say(
        "start",
        samples={
            "ms to ready": [(ready - start) * 1e3],
            "ms to first result": [(first - start) * 1e3],
            "idle private MB": [contender.idle_private_bytes() / 1e6],
        },
    )
    for row in sys.argv[2:]:
        workload, size, repeats, limit_s = ROWS[row]
        samples: dict[str, list[float]] = {}
        begun = time.perf_counter()
        # The first round warms up, where there is time for another.
        for round_number in range(repeats + 1):
            round_start = time.perf_counter()
            try:
                found = list(workload(contender, size))
            except workloads.WrongResult as wrong:
                say(row, wrong=str(wrong))
                break
            except Exception:
                say(row, error=traceback.format_exc(limit=4))
                break
            took = time.perf_counter() - round_start
            spent = time.perf_counter() - begun
            if round_number > 0 or repeats == 1 or spent + took > limit_s:
                for measure, value in found:
                    samples.setdefault(measure, []).append(value)
            if repeats == 1 or spent + took > limit_s:
                break
        if samples:
            say(row, samples=samples)
    contender.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
