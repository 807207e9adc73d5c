"""The model card: what was trained, how well it does, and how to train it again."""

import json
from collections.abc import Mapping
from typing import Any

from retain._version import __version__
from retain.train.evaluate import Evaluation


def card(
    facts: Mapping[str, Any],
    name: str,
    *,
    command: str,
    steps: int,
    evaluation: Evaluation | None,
    files: Mapping[str, str],
) -> str:
    """The text of README.md.

    Args:
        facts: the checkpoint's description of its agent.
        name: the name on the hub.
        command: the command that trains the agent again.
        steps: the environment steps it has learned from.
        evaluation: whole episodes in fresh environments, if any were played.
        files: the picture of the learning curve ("plot") and the film of an episode ("video"),
            where there are any.
    """
    algo, env = facts["algo"].upper(), facts["env_name"] or "an environment of its own"
    memory = facts[facts["algo"]]["memory"]
    kind = "without a memory" if memory == "none" else f"with the memory `{memory}`"
    parts = [
        _head(facts, name, evaluation),
        f"# {algo} on {env}\n",
        f"{algo} {kind}, trained for {steps:,} steps with retain {facts['retain']}.\n",
    ]
    if evaluation is not None:
        parts.append(_result(evaluation))
    if "video" in files:
        parts.append(f"![One episode]({files['video']})\n")
    if "plot" in files:
        parts.append(f"![Learning curve]({files['plot']})\n")
    parts += [_use(name), f"## Train it again\n\n```\n{command}\n```\n"]
    parts.append(f"Written by `retain push` (retain {__version__}).\n")
    return "\n".join(parts)


def _head(facts: Mapping[str, Any], name: str, evaluation: Evaluation | None) -> str:
    """The front matter that the hub reads; JSON is YAML."""
    env = facts["env_name"] or "own"
    head: dict[str, Any] = {
        "library_name": "retain",
        "pipeline_tag": "reinforcement-learning",
        "tags": ["reinforcement-learning", "retain", facts["algo"], env],
    }
    if evaluation is not None:
        value = f"{evaluation.return_mean:.2f} +/- {evaluation.return_std:.2f}"
        task = {"type": "reinforcement-learning", "name": "reinforcement-learning"}
        result = {
            "task": task,
            "dataset": {"name": env, "type": env},
            "metrics": [{"type": "mean_reward", "name": "mean_reward", "value": value}],
        }
        head["model-index"] = [{"name": name.rpartition("/")[2], "results": [result]}]
    lines = [f"{key}: {json.dumps(value)}" for key, value in head.items()]
    return "\n".join(["---", *lines, "---\n"])


def _result(evaluation: Evaluation) -> str:
    return (
        f"Return **{evaluation.return_mean:.1f} ± {evaluation.return_std:.1f}**, length "
        f"{evaluation.length_mean:.1f}, over {evaluation.episodes} episodes in fresh "
        "environments, deterministic actions.\n"
    )


def _use(name: str) -> str:
    folder = f"runs/{name.rpartition('/')[2]}"
    shell = f"pip install 'retain[hub]'\nretain pull {name}\nretain eval {folder}"
    return (
        f"## Use it\n\n```\n{shell}\n```\n\n"
        f'```python\nimport retain\n\nagent = retain.load("{folder}")\n'
        "carry = agent.initial_carry()\n"
        "action, carry = agent.act(obs, carry, reset, deterministic=True)\n```\n"
    )
