"""Builds the package; the Python side of protocol/wire is generated on the way.

The .proto files are those of the checkout around this folder or, in a source distribution, the copies that
sdist puts into it.
"""

import re
import shutil
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

HERE = Path(__file__).resolve().parent


def protocol_root() -> Path:
    """The folder that has protocol/wire in it."""
    for root in (HERE.parent, HERE):
        if (root / "protocol" / "wire" / "session.proto").is_file():
            return root
    sys.exit(
        "setup.py: expected protocol/wire/*.proto beside client/ or in it; build from a whole checkout or "
        "from a source distribution"
    )


def generate(target: Path) -> None:
    """Generate ray/_wire into `target`."""
    import grpc_tools.protoc

    root = protocol_root()
    protos = sorted((root / "protocol" / "wire").glob("*.proto"))
    made = target.parent / "_wire_made"
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(parents=True)
    names = [f"protocol/wire/{proto.name}" for proto in protos]
    code = grpc_tools.protoc.main(
        ["protoc", f"-I{root}", f"--python_out={made}", f"--grpc_python_out={made}", *names]
    )
    if code != 0:
        sys.exit(f"setup.py: protoc ended with {code}")
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    (target / "__init__.py").write_text('"""Generated from protocol/wire; not to be edited."""\n')
    for file in sorted((made / "protocol" / "wire").glob("*.py")):
        proto = root / "protocol" / "wire" / file.name.replace("_pb2_grpc.py", ".proto")
        if file.name.endswith("_pb2_grpc.py") and "\nservice " not in proto.read_text():
            continue
        # Generated modules import each other by the path of their .proto; here they are neighbours.
        text = re.sub(
            r"^from protocol\.wire import (\w+_pb2)", r"from ray._wire import \1", file.read_text(),
            flags=re.MULTILINE,
        )
        (target / file.name).write_text(text)
    shutil.rmtree(made)


class BuildWithProtocol(build_py):
    """build_py, and ray/_wire made anew in the build directory."""

    def run(self) -> None:
        (HERE / "ray" / "_wire").mkdir(exist_ok=True)
        super().run()
        generate(Path(self.build_lib) / "ray" / "_wire")


class SdistWithProtocol(sdist):
    """sdist with copies of the .proto files."""

    def make_release_tree(self, base_dir: str, files: list) -> None:
        super().make_release_tree(base_dir, files)
        target = Path(base_dir) / "protocol" / "wire"
        target.mkdir(parents=True, exist_ok=True)
        for proto in (protocol_root() / "protocol" / "wire").glob("*.proto"):
            shutil.copy(proto, target / proto.name)


setup(cmdclass={"build_py": BuildWithProtocol, "sdist": SdistWithProtocol})
