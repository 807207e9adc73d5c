"""Every example runs, on a small budget, in a process of its own, and is short."""

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

FOLDER = Path(__file__).parents[2] / "examples"
EXAMPLES = sorted(FOLDER.glob("*.py"))
NOTEBOOK = FOLDER / "first_agent.ipynb"
MOST_LINES = 59


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_example_runs(path, tmp_path):
    done = subprocess.run(
        [sys.executable, str(path), "1024"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_example_is_short(path):
    assert len(path.read_text().splitlines()) <= MOST_LINES


@pytest.fixture
def notebook():
    """The notebook, without outputs, on a small budget."""
    book = nbformat.read(NOTEBOOK, as_version=4)
    budgets = [c for c in book.cells if "parameters" in c.metadata.get("tags", [])]
    assert [cell.source for cell in budgets] == ["STEPS = 100_000"]
    budgets[0].source = "STEPS = 2048"
    for cell in book.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    return book


def execute(book, folder):
    NotebookClient(
        book, timeout=120, kernel_name="python3", resources={"metadata": {"path": folder}}
    ).execute()


def test_the_notebook_runs_and_draws(notebook, tmp_path):
    execute(notebook, tmp_path)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    printed = "".join(
        output.get("text", "") for output in outputs if output.get("name") == "stdout"
    )
    assert "forgetting at every step:" in printed


def test_a_broken_cell_of_a_notebook_is_noticed(notebook, tmp_path):
    notebook.cells[-2].source += "\nplay(agents['gru'])"
    with pytest.raises(CellExecutionError, match="'gru'"):
        execute(notebook, tmp_path)


def test_the_published_notebook_holds_its_results():
    book = nbformat.read(NOTEBOOK, as_version=4)
    cells = [cell for cell in book.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in cells)
    assert all(o.output_type != "error" for cell in cells for o in cell.outputs)
