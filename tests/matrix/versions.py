"""Which Dask is tried on which Python, with the pandas and NumPy of its time, and the environments for that."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path
from typing import List, NamedTuple, Optional, Tuple

ROOT = Path(__file__).resolve().parents[2]
PYTHONS = ("3.9", "3.10", "3.11", "3.12", "3.13")
_INSTALL_LIMIT_S = 900


class Version(NamedTuple):
    """A Dask release; `pythons` are the first and last that it, or the NumPy of its time, has wheels for."""

    dask: str
    pythons: Tuple[str, str]
    packages: Tuple[str, ...]


VERSIONS = (
    Version("2022.12.1", ("3.9", "3.11"), ("numpy==1.24.4", "pandas==1.5.3", "scipy<1.12", "zarr<2.17")),
    Version("2023.12.1", ("3.9", "3.12"), ("numpy==1.26.4", "pandas==2.1.4", "scipy<1.14", "pyarrow<16")),
    Version("2024.8.2", ("3.10", "3.12"), ("numpy==1.26.4", "pandas==2.2.3", "scipy<1.15", "pyarrow<18")),
    Version("2025.1.0", ("3.10", "3.13"), ("numpy==2.1.3", "pandas==2.2.3", "scipy<1.16", "pyarrow<20")),
    Version("2025.5.0", ("3.10", "3.13"), ("numpy==2.2.6", "pandas==2.2.3", "scipy<1.16", "pyarrow<21")),
    Version("2026.8.0", ("3.11", "3.13"), ("numpy>=2.3", "pandas>=3", "scipy", "pyarrow", "h5py")),
)

# What the client needs, and what its tests and Dask's suite do.
_ALWAYS = (
    "cloudpickle", "protobuf", "grpcio", "psutil", "pytest<10", "pytest-timeout", "hypothesis", "jinja2",
    "setuptools<81", "fsspec", "partd",
)


def interpreter(python: str) -> Optional[str]:
    """The program of this Python ("3.11") on this machine."""
    found = sorted(Path(os.environ.get("PYENV_ROOT", "/root/.pyenv"), "versions").glob(f"{python}.*"))
    places = [str(directory / "bin" / "python") for directory in found] + [f"/usr/bin/python{python}"]
    return next((place for place in places if os.access(place, os.X_OK)), None)


def supports(version: Version, python: str) -> bool:
    first, last = (PYTHONS.index(one) for one in version.pythons)
    return first <= PYTHONS.index(python) <= last


def environment(version: Version, python: str) -> Tuple[Optional[Path], str]:
    """The environment's Python, made if need be; or None and the reason."""
    program = interpreter(python)
    if program is None:
        return None, f"Python {python} is not installed here"
    if not supports(version, python):
        return None, f"Dask {version.dask} and the NumPy of its time are not made for Python {python}"
    directory = ROOT / f".venv-matrix-{version.dask}-{python}"
    packages: List[str] = [f"dask=={version.dask}", f"distributed=={version.dask}", *version.packages, *_ALWAYS]
    wanted = hashlib.sha256("\n".join(packages).encode()).hexdigest()
    stamp = directory / "raylet-packages.sha256"
    if not stamp.exists() or stamp.read_text() != wanted:
        for command in (
            [program, "-m", "venv", str(directory)],
            [str(directory / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check",
             *packages],
        ):
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_INSTALL_LIMIT_S
            )
            if done.returncode:
                last_line = (done.stderr.strip().splitlines() or ["no message"])[-1]
                return None, f"{' '.join(command[1:4])} failed: {last_line}"
        for site in directory.glob("lib/python3*/site-packages"):
            (site / "raylet_checkout.pth").write_text(f"{ROOT / 'client'}\n")
        stamp.write_text(wanted)
    return directory / "bin" / "python", ""
