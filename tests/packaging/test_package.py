"""The package as it is published: its archives, extras, citation, workflows and notes."""

import importlib.util
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from archives import ROOT, package_files, wheel_faults

import retain

CLIENT = Path(__file__).with_name("client.py")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CHANGELOG = "# Changelog\n\n## 0.2.0 (unreleased)\n\n- b\n\n## 0.1.0 (2026-01-02)\n\n- a\n"


def release_notes():
    spec = importlib.util.spec_from_file_location("release_notes", ROOT / ".ci/release_notes.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.notes


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    build = "import sys, hatchling.build as b; print(b.build_wheel(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", build, str(folder)], cwd=ROOT, check=True)
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    assert wheel_faults(wheel, package_files()) == []


def test_a_wheel_that_lacks_a_file_or_holds_a_foreign_one_is_named(wheel, tmp_path):
    other = tmp_path / wheel.name
    with zipfile.ZipFile(wheel) as whole, zipfile.ZipFile(other, "w") as broken:
        for name in whole.namelist():
            if name != "retain/py.typed":
                broken.writestr(name, whole.read(name))
        broken.writestr("tests/stray.py", "")
    assert wheel_faults(other, package_files()) == [
        f"{wheel.name} lacks retain/py.typed",
        f"{wheel.name} holds tests/stray.py, which is no part",
    ]


def test_all_is_every_extra_of_a_user():
    extras = PROJECT["optional-dependencies"]
    named = re.findall(r"[\w-]+", " ".join(re.findall(r"\[(.*?)\]", " ".join(extras["all"]))))
    assert sorted(named) == sorted(extras.keys() - {"all", "bench", "dev", "docs"})


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        ("citation-file-format", "CITATION.cff"),
        ("github-workflows", ".github/workflows/ci.yml"),
        ("github-workflows", ".github/workflows/release.yml"),
        ("github-issue-forms", ".github/ISSUE_TEMPLATE/bug.yml"),
        ("github-issue-forms", ".github/ISSUE_TEMPLATE/idea.yml"),
        ("github-issue-config", ".github/ISSUE_TEMPLATE/config.yml"),
    ],
)
def test_a_file_for_others_fits_its_published_schema(schema, path):
    tool = Path(sys.executable).with_name("check-jsonschema")
    done = subprocess.run(
        [tool, "--builtin-schema", f"vendor.{schema}", path],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_public_ci_runs_the_same_script_on_every_python_of_the_package():
    text = (ROOT / ".github/workflows/ci.yml").read_text()
    wanted = re.findall(r"Python :: (3\.\d+)", " ".join(PROJECT["classifiers"]))
    assert re.findall(r'"(3\.\d+)"', text.split("matrix:")[1].split("steps:")[0]) == wanted
    assert "run: .ci/run" in text
    assert "run: make package" in text


def test_the_citation_has_the_version_of_the_package():
    assert f"\nversion: {retain.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_release_notes_are_the_section_of_the_version():
    assert release_notes()("v0.1.0", CHANGELOG, "0.1.0") == "- a"


@pytest.mark.parametrize(
    ("tag", "version", "message"),
    [
        ("v0.1.1", "0.1.0", "expected 'v0.1.0'"),
        ("v0.2.0", "0.2.0", "expected the date of the release"),
        ("v0.3.0", "0.3.0", "it has 0.2.0, 0.1.0"),
    ],
)
def test_notes_of_another_an_unreleased_or_a_missing_version_are_refused(tag, version, message):
    with pytest.raises(SystemExit, match=message):
        release_notes()(tag, CHANGELOG, version)


def test_a_users_program_is_checked_against_the_types_of_the_package():
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--follow-imports=silent",
         "--disable-error-code=import-untyped", CLIENT],
        cwd=ROOT / "tests", capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
