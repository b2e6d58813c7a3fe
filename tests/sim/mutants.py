#!/usr/bin/env python3
"""Plants eleven bugs, one at a time, and demands that the simulator finds each.

The cores and the simulator are copied to a temporary folder and compiled there by g++. A mutant is a file, a
text that must be in it exactly once, and what stands there instead. Seeds run until one fails; a mutant that
survives all of them is reported, and the exit code is 1.

    tests/sim/mutants.py [--seeds N] [--jobs N] [--only NAME] [--build DIR]

--build keeps the copy and its objects in DIR, so that a second run compiles only what changed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDERS = ["protocol/words", "plasma/core", "gcs", "daemons/raylet/core", "tests/sim"]
SINGLE_FILES = ["daemons/raylet/stored_table.cc", "daemons/raylet/stored_table.h"]
FLAGS = ["-std=c++20", "-O1", "-w", "-I."]
SEED_TIMEOUT_S = 120


class Mutant(NamedTuple):
    name: str
    path: str
    find: str
    replace: str


CORE = "daemons/raylet/core/"
MUTANTS = [
    Mutant(
        "a release is lost: inputs from elsewhere stay used when their reader has ended",
        CORE + "readiness.cc",
        "      if (number != 0) unuse(number);\n    } else if (edge.dep < graph.arrived) {",
        "    } else if (edge.dep < graph.arrived) {",
    ),
    Mutant(
        "a stale answer is accepted: the result of a task that was cancelled or given to another",
        CORE + "results.cc",
        "  if (row.state != TaskState::kRunning) return;\n  switch",
        "  switch",
    ),
    Mutant(
        "a slab is granted twice: the arena hands out bytes and keeps them as free",
        "plasma/core/arena.cc",
        "      cut(hole, offset, size_bytes);\n      return offset;",
        "      return offset;",
    ),
    Mutant(
        "a wakeup is lost: readers in other graphs are not told that their input came",
        CORE + "objects.cc",
        "        input_came(*graph, ref.task);\n",
        "",
    ),
    Mutant(
        "a pin is dropped early: one unpin takes all of a session's pins",
        CORE + "holders.cc",
        "  count = std::min(count, objects_.share(share).pins);\n  if (count == 0) return;\n",
        "  count = objects_.share(share).pins;\n  if (count == 0) return;\n",
    ),
    Mutant(
        "a retry is not charged: a task that kills its workers is tried for ever",
        CORE + "results.cc",
        "++row.charged;",
        "(void)0;",
    ),
    Mutant(
        "resources are not returned when a worker has nothing left to do",
        CORE + "results.cc",
        "    give_resources(worker);\n    worker.state = Worker::State::kIdle;",
        "    worker.state = Worker::State::kIdle;",
    ),
    Mutant(
        "a driver's graphs are not cancelled when it has gone",
        CORE + "sessions.cc",
        "    if (graph->job != &job) continue;",
        "    if (true) continue;",
    ),
    Mutant(
        "an evicted object is not made again when somebody asks for it",
        CORE + "gets.cc",
        "      if (objects_[number].state == ObjectState::kLost) remake(number);\n",
        "",
    ),
    Mutant(
        "the head acknowledges before Redis has written",
        "gcs/cluster_writes.cc",
        "  if (ticket <= persisted_ticket) {\n    effects->emplace_back",
        "  if (true) {\n    effects->emplace_back",
    ),
    Mutant(
        "a name is granted twice: the head does not look who has it, nor the node",
        "gcs/cluster_names.cc",
        "if (const NameRecord* known = names.find(record.name_space, record.name)) {",
        "if (const NameRecord* known = names.find(record.name_space, record.name);\n"
        "    known && known->actor == record.actor) {",
    ),
]


class Build:
    """A copy of the sources with one object file each, compiled when the source or any header changed."""

    def __init__(self, folder: Path, jobs: int) -> None:
        self.folder = folder
        self.jobs = jobs
        self.objects: Dict[str, Path] = {}

    def copy_sources(self) -> None:
        wanted: List[Path] = [ROOT / name for name in SINGLE_FILES]
        for name in FOLDERS:
            wanted += [p for p in sorted((ROOT / name).iterdir())
                       if p.suffix in (".h", ".cc") and not p.stem.endswith("_test")]
        for source in wanted:
            target = self.folder / source.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            text = source.read_bytes()
            if not target.exists() or target.read_bytes() != text:
                target.write_bytes(text)

    def sources(self) -> List[str]:
        return sorted(str(p.relative_to(self.folder)) for p in self.folder.rglob("*.cc"))

    def object_of(self, source: str) -> Path:
        return self.folder / "objects" / (source.replace("/", "_") + ".o")

    def compile(self, source: str, target: Path, text: Optional[str] = None) -> None:
        command = ["g++", *FLAGS, "-c", "-o", str(target)]
        if text is None:
            subprocess.run([*command, source], cwd=self.folder, check=True)
        else:
            command += ["-x", "c++", "-iquote", ".", "-"]
            subprocess.run(command, cwd=self.folder, check=True, input=text, text=True)

    def compile_all(self) -> None:
        (self.folder / "objects").mkdir(exist_ok=True)
        newest_header = max(p.stat().st_mtime for p in self.folder.rglob("*.h"))
        stale = []
        for source in self.sources():
            target = self.object_of(source)
            newest = max(newest_header, (self.folder / source).stat().st_mtime)
            if not target.exists() or target.stat().st_mtime <= newest:
                stale.append(source)
        with ThreadPoolExecutor(self.jobs) as pool:
            list(pool.map(lambda s: self.compile(s, self.object_of(s)), stale))

    def link(self, name: str, instead: Optional[Dict[str, Path]] = None) -> Path:
        objects = {source: self.object_of(source) for source in self.sources()}
        objects.update(instead or {})
        target = self.folder / name
        subprocess.run(["g++", "-o", str(target), *map(str, objects.values())], check=True)
        return target


def first_failure(sim: Path, seeds: int) -> Optional[str]:
    """What the first failing seed said, or None if all passed."""
    for seed in range(1, seeds + 1):
        try:
            run = subprocess.run([str(sim), "--seed", str(seed)], capture_output=True, text=True,
                                 errors="replace", timeout=SEED_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            return f"seed {seed}: it did not end within {SEED_TIMEOUT_S} s"
        if run.returncode != 0:
            said = [line for line in run.stderr.splitlines() if "invariant" in line or "MUST" in line]
            return f"seed {seed}: {said[0][:200] if said else 'it stopped by ' + str(run.returncode)}"
    return None


def try_mutant(build: Build, mutant: Mutant, seeds: int) -> Optional[str]:
    source = build.folder / mutant.path
    text = source.read_text()
    if text.count(mutant.find) != 1:
        return None
    changed = build.folder / "objects" / "mutant.o"
    build.compile(mutant.path, changed, text.replace(mutant.find, mutant.replace))
    return first_failure(build.link("mutant", {mutant.path: changed}), seeds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=300, help="how many seeds a mutant may survive")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 2)
    parser.add_argument("--only", default="", help="mutants whose name contains this")
    parser.add_argument("--build", default="", help="a folder that keeps the compiled copy")
    arguments = parser.parse_args()
    folder = Path(arguments.build or tempfile.mkdtemp(prefix="raylet-mutants-")).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        build = Build(folder, arguments.jobs)
        build.copy_sources()
        build.compile_all()
        healthy = build.link("sim")
        trouble = first_failure(healthy, 20)
        if trouble:
            print(f"without any mutant the simulator fails already: {trouble}")
            return 1
        chosen = [m for m in MUTANTS if arguments.only in m.name]
        found = 0
        for mutant in chosen:
            if (build.folder / mutant.path).read_text().count(mutant.find) != 1:
                print(f"NOT PLANTED  {mutant.name}: its text is not in {mutant.path} exactly once")
                continue
            failure = try_mutant(build, mutant, arguments.seeds)
            print(f"{'found       ' if failure else 'SURVIVED    '} {mutant.name}"
                  + (f"\n             {failure}" if failure else ""), flush=True)
            found += failure is not None
        print(f"{found}/{len(chosen)} mutants found")
        return 0 if found == len(chosen) else 1
    finally:
        if not arguments.build:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
