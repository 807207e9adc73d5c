"""What the wheel and the source archive must hold, read from the archives themselves."""

import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[2]
VITAL = (
    "retain/py.typed",
    "retain/ops/native/recurrent.cpp",
    "retain/ops/native/vector.hpp",
    "retain/study/report/page.html",
    "retain/train/algorithms.pyi",
    "retain/train/presets/tuned/ppo.toml",
)
"""Files that are no Python code and without which something would fail only at use."""


def package_files(source: Path = ROOT / "src") -> set[str]:
    """Every file of the package in this checkout, as `retain/...`."""
    found = (path for path in (source / "retain").rglob("*") if path.is_file())
    return {
        path.relative_to(source).as_posix()
        for path in found
        if "__pycache__" not in path.parts and path.suffix != ".so"
    }


def wheel_faults(wheel: Path, expected: Iterable[str]) -> list[str]:
    """A line for each file that the wheel lacks or should not hold, and for a wheel that would
    suit only some machines."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    held = {name for name in names if ".dist-info/" not in name}
    expected = {*expected, *VITAL}
    faults = [f"{wheel.name} lacks {name}" for name in sorted(expected - held)]
    faults += [f"{wheel.name} holds {name}, which is no part" for name in sorted(held - expected)]
    if not any(name.endswith(".dist-info/licenses/LICENSE") for name in names):
        faults.append(f"{wheel.name} lacks the licence")
    if not wheel.name.endswith("-py3-none-any.whl"):
        faults.append(f"{wheel.name} is not for every machine (expected py3-none-any)")
    return faults


def source_faults(archive: Path, expected: Iterable[str]) -> list[str]:
    """A line for each file that the source archive lacks: the package, and what tests it."""
    top = archive.name.removesuffix(".tar.gz")
    with tarfile.open(archive) as tar:
        names = {name.removeprefix(f"{top}/") for name in tar.getnames()}
    wanted = {f"src/{name}" for name in expected}
    wanted |= {"pyproject.toml", "LICENSE", "README.md", "CHANGELOG.md", "tests/conftest.py"}
    return [f"{archive.name} lacks {name}" for name in sorted(wanted - names)]
