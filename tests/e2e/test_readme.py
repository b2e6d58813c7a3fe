"""What README.md shows works as it is written there."""

import pathlib
import re
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.fixture(scope="module")
def grpcurl(tmp_path_factory):
    """The path of grpcurl: installed, or built by Go; a loud skip where neither can be had."""
    found = shutil.which("grpcurl")
    if found:
        return found
    if not shutil.which("go"):
        pytest.skip("SKIPPED LOUDLY: neither grpcurl nor Go is here, so README's grpcurl lines were not run")
    target = tmp_path_factory.mktemp("go")
    built = subprocess.run(
        ["go", "install", "github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.3"],
        env={"PATH": "/usr/local/go/bin:/usr/bin:/bin:" + str(pathlib.Path(shutil.which("go")).parent),
             "HOME": str(pathlib.Path.home()), "GOBIN": str(target)},
        capture_output=True, text=True, timeout=240)
    if built.returncode != 0:
        pytest.skip(f"SKIPPED LOUDLY: Go could not install grpcurl: {built.stderr[-500:]}")
    return str(target / "grpcurl")


@pytest.fixture(scope="module")
def session_directory(tmp_path_factory):
    """A node of this test's own, started and stopped with the command line."""
    directory = pathlib.Path(f"/tmp/raylet-readme-{tmp_path_factory.getbasetemp().name}-{id(object())}")
    raylet = str(ROOT / "bin" / "raylet")
    subprocess.run([raylet, "start", "--head", "--session-dir", str(directory), "--num-cpus", "1",
                    "--object-store-memory", "64MiB", "--python", sys.executable],
                   check=True, timeout=60)
    yield directory
    subprocess.run([raylet, "stop", "--session-dir", str(directory)], check=True, timeout=30)
    shutil.rmtree(directory, ignore_errors=True)


@pytest.mark.timeout(300)
def test_the_grpcurl_lines_work(grpcurl, session_directory):
    lines = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("grpcurl ")]
    assert len(lines) >= 5
    for line in lines:
        words = line.replace("/tmp/raylet-0/current", str(session_directory)).split()
        done = subprocess.run([grpcurl] + words[1:], capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, f"{line}\n{done.stderr}"
        assert done.stdout.strip(), line


@pytest.mark.timeout(120)
def test_the_first_script_works(tmp_path):
    (script,) = blocks("python")
    path = tmp_path / "first.py"
    path.write_text(script)
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=110, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    printed = done.stdout.splitlines()
    assert 0.95 < float(printed[0]) < 1.05
    assert printed[-2:] == ["[0, 1, 4, 9]", "10"]
