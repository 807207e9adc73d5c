"""No file reaches for another object's underscore: what others need has a public name."""

import ast
from pathlib import Path
from typing import Any

from retain.train.agent import Agent

SRC = Path(__file__).parents[1] / "src" / "retain"
FOREIGN = {
    "_exit",  # os
    "_replace", "_asdict", "_make", "_fields",  # named tuples
    "_modules", "_parameters",  # torch modules
    "_version",  # tensors
    "_saved_kwargs",  # gymnasium.utils.RecordConstructorArgs, which has no other name for it
}  # fmt: skip
"""Names with an underscore that other packages made public."""


def own(tree):
    """The private names that a file makes itself: methods, functions, attributes, fields."""
    made = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            made.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            if isinstance(node.value, ast.Name) and node.value.id == "self":
                made.add(node.attr)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            made.add(node.target.id)
    return made


def reached(text):
    """Private names of other objects that a file reads or writes, with their lines."""
    tree = ast.parse(text)
    allowed = own(tree) | FOREIGN
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute) or not node.attr.startswith("_"):
            continue
        if node.attr.startswith("__") or node.attr in allowed:
            continue
        value = node.value
        if isinstance(value, ast.Call) and getattr(value.func, "id", "") == "super":
            continue
        if isinstance(value, ast.Name) and value.id in ("self", "cls"):
            continue
        if ast.unparse(value).partition(".")[0] == "torch":
            continue
        found.append(f"{node.lineno}: {ast.unparse(node)}")
    return found


def test_no_file_reaches_for_anothers_underscore():
    found = {str(path.relative_to(SRC)): reached(path.read_text()) for path in SRC.rglob("*.py")}
    assert {path: lines for path, lines in found.items() if lines} == {}


def test_what_an_agent_is_made_of_is_typed():
    hints = {name: kind for part in reversed(Agent.__mro__)
             for name, kind in vars(part).get("__annotations__", {}).items()}  # fmt: skip
    hints["collector"] = Agent.collector.fget.__annotations__["return"]
    for name in ("config", "policy", "update", "collector", "run_settings"):
        assert hints[name] not in (Any, "Any"), name


def test_the_search_finds_what_it_must():
    assert reached("def f(agent): return agent._setup()") == ["1: agent._setup"]
    assert reached("a.b._c = 1; x._replace(); torch.ops._x; super()._y()") == ["1: a.b._c"]
    assert reached("class A:\n    def _g(self): ...\nA()._g()") == []
