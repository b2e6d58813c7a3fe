"""Asks a raylet for its metrics again and again, and tells how long the answers took.

    python poller.py GRPC-ADDRESS

Prints "ready", polls every 10 ms until its input ends, then prints one JSON line. An answer comes from the
raylet's loop, so the longest wait is no shorter than the longest pause of that loop.
"""

from __future__ import annotations

import json
import select
import sys
import time

import grpc
from ray._wire import raylet_pb2, raylet_pb2_grpc

WAIT_S = 0.01


def main() -> int:
    waits_ms = []
    with grpc.insecure_channel(sys.argv[1]) as channel:
        stub = raylet_pb2_grpc.RayletStub(channel)
        stub.GetMetrics(raylet_pb2.GetMetricsRequest(), timeout=10)
        print("ready", flush=True)
        while not select.select([sys.stdin], [], [], WAIT_S)[0]:
            start = time.perf_counter()
            stub.GetMetrics(raylet_pb2.GetMetricsRequest(), timeout=10)
            waits_ms.append((time.perf_counter() - start) * 1e3)
    print(json.dumps({"polls": len(waits_ms), "longest_ms": max(waits_ms, default=0.0)}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
