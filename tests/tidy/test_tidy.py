"""The house rules that a compiler does not check: who includes whom, what a core may not do, how lines look.

Each rule is a function from a file's path and text to its complaints, and each is tested on a text that
breaks it, so that no rule can rot into one that never complains.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Callable, Iterator

import pytest

ROOT = Path(__file__).resolve().parents[2]

CORES = ("gcs/", "plasma/core/", "daemons/raylet/core/")
CPP = (".h", ".cc")
FILE_LINES_MAX = 600  # far above what is usual: beyond it a second concept has surely moved in
LINE_CHARACTERS_MAX = dict.fromkeys((".h", ".cc", ".proto", ".py", ".sh"), 115)  # as in .clang-format

# Calls a pure core may not make, with what it does instead.
BANNED_IN_CORES = {
    r"\bstd::chrono::\w+_clock\b": "time is an argument (protocol/words/time.h)",
    r"\b(?:std::)?(?:time|clock_gettime|gettimeofday|clock)\s*\(": "time is an argument (protocol/words/time.h)",
    r"\b(?:std::)?s?rand\s*\(|\bstd::(?:random_device|mt19937)":
        "randomness is an argument (protocol/words/rng.h)",
    r"\bgetenv\s*\(": "options are arguments",
    r"\bstd::j?thread\b|\bstd::(?:recursive_|shared_)?mutex\b|\bstd::atomic\b": "a core is single-threaded",
    r"\bthread_local\b": "a core has no globals",
    r"\bfopen\s*\(|\bstd::[io]?fstream\b|\bstd::filesystem\b": "a core touches no file",
    r"\bprintf\s*\(|\bstd::(?:cout|cerr|clog)\b|\bspdlog::": "a core logs nothing: it returns effects",
    r"\b(?:socket|mmap|fork|usleep|sleep)\s*\(": "a core does no I/O: it returns effects",
}

# Libraries of headers that cost each file that includes them 2 to 8 s: who may, and what others do.
HEAVY_HEADERS = {
    "boost/asio": (("daemons/kit/asio.h", "daemons/kit/asio.cc"), "include daemons/kit/asio.h"),
    "spdlog/": (("daemons/kit/log.cc",), "include daemons/kit/log.h"),
    "CLI/": (("daemons/kit/flags.h",), "include daemons/kit/flags.h"),
}

C_LIBRARY_OF_CPP = re.compile(r"^<[a-z_0-9]+>$")  # <vector>, <cstdint>; not <unistd.h>
Rule = Callable[[str, str], Iterator[str]]


def code_lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines of C++ without comments and string contents, with their numbers."""
    for number, line in enumerate(text.splitlines(), 1):
        line = re.sub(r'"(?:\\.|[^"\\])*"', '""', line)
        yield number, line.split("//")[0]


def includes(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.splitlines(), 1):
        if match := re.match(r'\s*#\s*include\s+("[^"]+"|<[^>]+>)', line):
            yield number, match[1]


def in_core(path: str) -> bool:
    return path.startswith(CORES) and not path.endswith("_test.cc")


def cores_include_words_and_std_only(path: str, text: str) -> Iterator[str]:
    if not path.endswith(CPP) or not in_core(path):
        return
    own = next(core for core in CORES if path.startswith(core))
    for number, name in includes(text):
        if C_LIBRARY_OF_CPP.match(name):
            continue
        if name.strip('"').startswith(("protocol/words/", own)):
            continue
        yield f"{path}:{number}: a core includes {name}; only protocol/words, itself and the standard library"


def heavy_headers_in_one_place(path: str, text: str) -> Iterator[str]:
    """What is slow to compile is included by the files that hide it."""
    if not path.endswith(CPP):
        return
    for number, name in includes(text):
        for heavy, (homes, instead) in HEAVY_HEADERS.items():
            if name[1:].startswith(heavy) and path not in homes:
                yield f"{path}:{number}: {instead} instead of {name}"
        if name == '"daemons/kit/asio.h"' and path.endswith(".h"):
            yield f"{path}:{number}: keep Asio in the .cc file: all who include this header would compile it"


def nobody_includes_a_daemon(path: str, text: str) -> Iterator[str]:
    """Daemons include the kit, themselves and pure cores; others include no daemon at all."""
    if not path.endswith(CPP):
        return
    for number, name in includes(text):
        name = name.strip('"')
        if not name.startswith("daemons/") or name.startswith(("daemons/kit/", "daemons/raylet/core/")):
            if name.startswith("daemons/kit/") and not path.startswith(("daemons/", "tests/")):
                yield f"{path}:{number}: only daemons include {name}"
            continue
        daemon = "/".join(name.split("/")[:2]) + "/"
        if not path.startswith((daemon, "tests/")):
            yield f"{path}:{number}: includes {name} of another daemon"


def cores_do_no_io(path: str, text: str) -> Iterator[str]:
    if not path.endswith(CPP) or not in_core(path):
        return
    for number, line in code_lines(text):
        for pattern, instead in BANNED_IN_CORES.items():
            if match := re.search(pattern, line):
                yield f"{path}:{number}: {match[0].strip()}: {instead}"


def lines_fit(path: str, text: str) -> Iterator[str]:
    limit = LINE_CHARACTERS_MAX.get(Path(path).suffix)
    for number, line in enumerate(text.splitlines(), 1):
        if limit and len(line) > limit:
            yield f"{path}:{number}: {len(line)} characters, at most {limit}"
        if line != line.rstrip():
            yield f"{path}:{number}: white space at the end"
        if "\t" in line and Path(path).suffix in (".h", ".cc", ".py", ".proto"):
            yield f"{path}:{number}: a tab"


def nothing_is_left_to_do(path: str, text: str) -> Iterator[str]:
    for number, line in enumerate(text.splitlines(), 1):
        if match := re.search(r"\b(TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b", line):
            yield f"{path}:{number}: {match[0]}: do it, or file an issue"


def files_are_short(path: str, text: str) -> Iterator[str]:
    count = text.count("\n")
    if Path(path).suffix in (".h", ".cc", ".py", ".proto") and count > FILE_LINES_MAX:
        yield f"{path}: {count} lines, at most {FILE_LINES_MAX}: which second concept moved in?"


def headers_are_guarded_and_introduced(path: str, text: str) -> Iterator[str]:
    if not path.endswith(".h"):
        return
    if "#pragma once" not in text:
        yield f"{path}: no #pragma once"
    if not text.startswith("//"):
        yield f"{path}: does not begin with a comment that says what it is"


RULES: list[Rule] = [
    cores_include_words_and_std_only,
    heavy_headers_in_one_place,
    nobody_includes_a_daemon,
    cores_do_no_io,
    lines_fit,
    nothing_is_left_to_do,
    files_are_short,
    headers_are_guarded_and_introduced,
]

# What each rule must complain about.
BREACHES: dict[Rule, tuple[str, str]] = {
    cores_include_words_and_std_only: ("gcs/x.h", "#include <unistd.h>\n"),
    heavy_headers_in_one_place: ("daemons/head/x.cc", "#include <boost/asio.hpp>\n"),
    nobody_includes_a_daemon: ("plasma/core/x.h", '#include "daemons/store/store.h"\n'),
    cores_do_no_io: ("plasma/core/x.cc", "auto now = std::chrono::steady_clock::now();\n"),
    lines_fit: ("client/ray/x.py", "x" * 131 + "\n"),
    nothing_is_left_to_do: ("a.cc", "// TO" "DO later\n"),
    files_are_short: ("a.cc", "\n" * (FILE_LINES_MAX + 1)),
    headers_are_guarded_and_introduced: ("a.h", "int x;\n"),
}


def tracked_files() -> list[str]:
    """Everything in git, and what is about to be."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, check=True, capture_output=True,
        ).stdout.decode()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout: no list of the files that are ours")
    return [name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def texts() -> Iterator[tuple[str, str]]:
    for path in tracked_files():
        if Path(path).suffix not in LINE_CHARACTERS_MAX or path.startswith("client/ray/_wire/"):
            continue
        try:
            yield path, (ROOT / path).read_text()
        except FileNotFoundError:  # deleted since it was listed
            continue


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_house_keeps_its_rule(rule: Rule) -> None:
    complaints = [complaint for path, text in texts() for complaint in rule(path, text)]
    assert not complaints, "\n" + "\n".join(complaints)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_each_rule_notices_a_breach(rule: Rule) -> None:
    path, text = BREACHES[rule]
    assert list(rule(path, text))


@pytest.mark.parametrize(
    "line",
    [
        "std::rand();", "time(nullptr);", "std::mutex m;", "getenv(\"X\");", "std::ofstream f;",
        "std::cerr << 1;", "fork();", "thread_local int x;", "std::thread t;",
    ],
)
def test_cores_may_not(line: str) -> None:
    assert list(cores_do_no_io("gcs/x.cc", line + "\n"))


@pytest.mark.parametrize(
    "line", ["// no time() here", "start_time(x);", 'refuse("fork() failed");', "bytes.time_ms();"]
)
def test_cores_may(line: str) -> None:
    assert not list(cores_do_no_io("gcs/x.cc", line + "\n"))


def test_there_is_something_to_check() -> None:
    paths = [path for path, _ in texts()]
    for core in CORES:
        assert any(path.startswith(core) for path in paths), core
