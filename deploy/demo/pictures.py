"""The demo's two pictures: the climate's anomaly, and when which worker ran what."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  (the backend is chosen first)
import numpy as np  # noqa: E402


def draw_anomaly(climate: Any, path: Path) -> None:
    """The month that was furthest from its mean, on a map, and the mean anomaly over time."""
    anomaly = climate["anomaly"]
    strongest = int(np.abs(anomaly).mean(["latitude", "longitude"]).argmax("time"))
    month = anomaly.isel(time=strongest)
    figure, (map_axes, line_axes) = plt.subplots(2, 1, figsize=(10, 6), layout="constrained")
    limit = float(np.nanmax(np.abs(month)))
    mesh = map_axes.pcolormesh(
        month["longitude"], month["latitude"], month, cmap="RdBu_r", vmin=-limit, vmax=limit, shading="nearest"
    )
    figure.colorbar(mesh, ax=map_axes, label="K")
    when = str(month["time"].values)[:7]
    map_axes.set_title(f"Sea surface temperature, difference from the month's mean, {when}")
    map_axes.set_xlabel("longitude")
    map_axes.set_ylabel("latitude")
    line_axes.plot(anomaly["time"], anomaly.mean(["latitude", "longitude"]))
    line_axes.axhline(0, color="grey", linewidth=0.5)
    line_axes.set_ylabel("mean anomaly, K")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def read_timeline(raylet_address: str) -> list[Any]:
    """The newest finished tasks with worker and times, asked of rayletd over gRPC (Raylet.GetTimeline)."""
    import grpc
    from ray._wire import raylet_pb2, raylet_pb2_grpc

    options = [("grpc.max_receive_message_length", 64 << 20)]
    with grpc.insecure_channel(raylet_address, options=options) as channel:
        reply = raylet_pb2_grpc.RayletStub(channel).GetTimeline(raylet_pb2.GetTimelineRequest(), timeout=10)
    return list(reply.entries)


def largest_graph(entries: list[Any]) -> list[Any]:
    """The entries of the graph with the most tasks, the newest of those that are equal."""
    counts = Counter(entry.graph for entry in reversed(entries))
    graph = counts.most_common(1)[0][0] if counts else ""
    return [entry for entry in entries if entry.graph == graph]


def kind(name: str) -> str:
    """A task's name without the token that Dask puts behind it."""
    return re.sub(r"[-_][0-9a-f]{8,}.*$", "", name)[:40]


def draw_timeline(entries: list[Any], path: Path) -> int:
    """One bar a task, one row a worker process. Returns how many tasks it shows."""
    if not entries:
        raise RuntimeError("the raylet's timeline is empty, though tasks have run")
    rows = {pid: row for row, pid in enumerate(sorted({entry.pid for entry in entries}))}
    names = sorted({kind(entry.name) for entry in entries})
    colours = dict(zip(names, plt.get_cmap("tab20")(np.linspace(0, 1, max(2, len(names))))))
    start = min(entry.reported_us - entry.duration_us for entry in entries)
    figure, axes = plt.subplots(figsize=(12, 3 + 0.5 * len(rows)), layout="constrained")
    for name in names:
        mine = [entry for entry in entries if kind(entry.name) == name]
        axes.barh(
            [rows[entry.pid] for entry in mine],
            [max(entry.duration_us, 200) / 1e3 for entry in mine],
            left=[(entry.reported_us - entry.duration_us - start) / 1e3 for entry in mine],
            height=0.8, color=colours[name], label=name,
        )
    axes.set_yticks(list(rows.values()), [f"worker {pid}" for pid in rows])
    axes.set_xlabel("ms")
    axes.set_title(f"A graph of {len(entries)} tasks: which worker ran what, and when")
    figure.legend(fontsize=7, loc="outside lower center", ncols=5)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return len(entries)
