"""Tries the wheel as its first user would: `make package` runs this in an empty environment.

It checks what `dist/` holds, that the package comes from the wheel and not from this checkout, the
command line, the demo with a tiny budget, and that the compiled kernels build from their sources in
the wheel (where there is a C++ compiler). Prints a line for each; the status is 1 if one fails.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from archives import ROOT, package_files, source_faults, wheel_faults

STEPS = "4096"
KERNELS = "from retain.ops.native.library import library; print(library()._name)"
WHERE = "import retain; print(retain.__version__, retain.__file__)"


def said(*command: str, folder: str) -> str:
    """The last line of a command's output.

    Raises:
        SystemExit: the command failed; its errors are printed.
    """
    environment = {key: x for key, x in os.environ.items() if not key.startswith("PYTHON")}
    environment["XDG_CACHE_HOME"] = str(Path(folder) / "cache")  # nothing compiled before
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\nstatus {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout.strip().splitlines()[-1]


def main() -> None:
    """Runs every check."""
    wheels, sources = sorted(ROOT.glob("dist/*.whl")), sorted(ROOT.glob("dist/*.tar.gz"))
    if len(wheels) != 1 or len(sources) != 1:
        sys.exit(f"dist/ holds {len(wheels)} wheels and {len(sources)} archives (expected 1 and 1)")
    files = package_files()
    faults = [*wheel_faults(wheels[0], files), *source_faults(sources[0], files)]
    if faults:
        sys.exit("\n".join(faults))
    print(f"{wheels[0].name}: {len(files)} files, {wheels[0].stat().st_size / 1000:.0f} kB")
    print(f"{sources[0].name}: {sources[0].stat().st_size / 1000:.0f} kB")
    with tempfile.TemporaryDirectory() as folder:
        retain = str(Path(sys.executable).with_name("retain"))
        version, home = said(sys.executable, "-c", WHERE, folder=folder).split(maxsplit=1)
        if ROOT / "src" in Path(home).parents:
            sys.exit(f"retain comes from {home} (expected the installed wheel)")
        answer = said(retain, "--version", folder=folder)
        if answer != f"retain {version}":
            sys.exit(f"retain --version says {answer!r} (expected 'retain {version}')")
        print(answer, "on Python", sys.version.split()[0])
        print("demo:", said(sys.executable, "-m", "retain.cli.demo", STEPS, folder=folder))
        picture = Path(folder) / "runs/demo/learning_curve.png"
        if not picture.exists():
            sys.exit("the demo drew no learning curve")
        if shutil.which(os.environ.get("CXX", "c++")):
            print("kernels:", Path(said(sys.executable, "-c", KERNELS, folder=folder)).name)
    print("the wheel works")


if __name__ == "__main__":
    main()
