"""Settings that are known to work, by algorithm, memory and environment.

A preset applies unless a flag or argument overrides it. Sources: rl-zoo3's tuned settings (the
value coefficient doubled, since our value loss has a half in it) and CleanRL's defaults.
"""

from typing import Any

Preset = dict[str, Any]

_ZOO_CARTPOLE: Preset = {
    "num_envs": 8, "num_steps": 32, "batch_size": 256, "epochs": 20, "learning_rate": 1e-3,
    "lr_schedule": "linear", "gamma": 0.98, "gae_lambda": 0.8, "clip_range": 0.2,
    "clip_schedule": "linear", "entropy_coef": 0.0, "value_coef": 1.0,
}  # fmt: skip

_ZOO_PENDULUM: Preset = {
    "num_envs": 4, "num_steps": 1024, "epochs": 10, "learning_rate": 1e-3,
    "lr_schedule": "constant", "gamma": 0.9, "gae_lambda": 0.95, "clip_range": 0.2,
    "entropy_coef": 0.0, "value_coef": 1.0, "use_sde": True, "sde_sample_freq": 4,
}  # fmt: skip

# Our own: rl-zoo's step sizes, longer segments cut into sequences of 32.
_POLE_MEMORY: Preset = _ZOO_CARTPOLE | {
    "num_envs": 16, "num_steps": 128, "batch_size": 512, "sequence_length": 32, "epochs": 10,
    "gae_lambda": 0.95, "memory_hidden": 64, "separate_memory": True, "shortcut": True,
    "previous_action": True, "hidden": (64,), "activation": "relu",
    "normalise_obs": True, "normalise_reward": True,
}  # fmt: skip

# Our own: shorter sequences in larger minibatches than rl-zoo's, plain Gaussian noise.
_PENDULUM_MEMORY: Preset = _ZOO_PENDULUM | {
    "num_envs": 8, "num_steps": 512, "batch_size": 512, "sequence_length": 32,
    "use_sde": False, "normalise_reward": True, "memory_hidden": 128, "shortcut": True,
    "previous_action": True,
}  # fmt: skip

_PRESETS: dict[str, dict[str, Preset]] = {
    "CartPole-v1": {
        "none": _ZOO_CARTPOLE,
        "recurrent": _ZOO_CARTPOLE | {"memory_hidden": 64, "separate_memory": True,
                                      "hidden": (64,), "activation": "relu"},
    },
    "CartPoleNoVel-v1": {
        "none": _ZOO_CARTPOLE | {"normalise_obs": True},
        "recurrent": _POLE_MEMORY,
        "lstm": _POLE_MEMORY | {"epochs": 6},
    },
    "Acrobot-v1": {
        "none": {"num_envs": 4, "num_steps": 128, "batch_size": 128},
        "recurrent": {"num_envs": 8, "num_steps": 128, "batch_size": 256},
    },
    "Pendulum-v1": {
        "none": _ZOO_PENDULUM | {"batch_size": 64},
        "recurrent": _PENDULUM_MEMORY,
    },
    "PendulumNoVel-v1": {"none": _ZOO_PENDULUM | {"batch_size": 64}, "recurrent": _PENDULUM_MEMORY},
    "MountainCarContinuous-v0": {
        "none": {"num_envs": 1, "num_steps": 8, "batch_size": 8, "epochs": 10,
                 "learning_rate": 7.77e-5, "lr_schedule": "constant", "gamma": 0.9999,
                 "gae_lambda": 0.9, "clip_range": 0.1, "entropy_coef": 0.00429,
                 "value_coef": 0.38, "max_grad_norm": 5.0, "normalise_obs": True,
                 "normalise_reward": True, "use_sde": True, "log_std_init": -3.29},
        "recurrent": {"num_envs": 1, "num_steps": 1024, "batch_size": 256, "epochs": 10,
                      "sequence_length": 64, "lr_schedule": "constant",
                      "learning_rate": 3e-4, "gamma": 0.99, "gae_lambda": 0.95,
                      "clip_range": 0.2, "entropy_coef": 0.01, "value_coef": 1.0,
                      "normalise_obs": True, "normalise_reward": True,
                      "memory_hidden": 16, "separate_memory": True,
                      "hidden": (64,), "use_sde": True, "sde_sample_freq": 8},
    },
}  # fmt: skip
_SUITE: Preset = {
    "num_envs": 32, "num_steps": 64, "batch_size": 512, "epochs": 4, "learning_rate": 2.5e-3,
    "gamma": 0.99, "entropy_coef": 0.01, "memory_hidden": 64, "hidden": (64,),
}  # fmt: skip
for _name in ("RepeatPrevious-v0", "RepeatFirst-v0", "Autoencode-v0", "TMaze-v0", "MemoryChain-v0",
              "CueTarget-v0", "Bandit-v0"):  # fmt: skip
    _PRESETS[_name] = {"none": _SUITE, "recurrent": _SUITE}
_PRESETS["RepeatPrevious-v0"] = dict.fromkeys(
    ("none", "recurrent"), _SUITE | {"num_steps": 104, "batch_size": 832}
)
_PRESETS["MountainCarContinuousNoVel-v0"] = _PRESETS["MountainCarContinuous-v0"]


_DQN_POLE: Preset = {
    "num_envs": 8, "num_steps": 50, "hidden": (128, 128), "batch_size": 128, "normalise_obs": True,
    "update_ratio": 0.125, "learning_rate": 1e-3, "gamma": 0.98, "n_step": 5, "tau": 0.01,
    "epsilon_final": 0.02, "prioritized": True,
}  # fmt: skip
_DQN_POLE_MEMORY: Preset = _DQN_POLE | {
    "hidden": (64,), "memory_hidden": 64, "batch_size": 256, "sequence_length": 16, "burn_in": 8,
}  # fmt: skip

# Our own: short sequences, long returns, priorities (R2D2 in small).
_DQN: dict[str, dict[str, Preset]] = {
    "CartPole-v1": {"none": _DQN_POLE, "recurrent": _DQN_POLE_MEMORY},
    "CartPoleNoVel-v1": {"none": _DQN_POLE, "recurrent": _DQN_POLE_MEMORY},
}

_OFF_POLICY_MEMORY: Preset = {"hidden": (128, 128), "memory_hidden": 64, "update_ratio": 0.5}

# Our own: pomdp-baselines' short discount where velocities are hidden, smaller networks.
_OFF_POLICY: dict[str, dict[str, Preset]] = {
    "Pendulum-v1": {
        "none": {"gamma": 0.98, "batch_size": 128},
        "recurrent": _OFF_POLICY_MEMORY | {"gamma": 0.9, "sequence_length": 32},
        "window": _OFF_POLICY_MEMORY | {"gamma": 0.98, "batch_size": 128, "update_ratio": 0.25},
    },
    "PendulumNoVel-v1": {
        "none": {"gamma": 0.9, "batch_size": 128},
        "recurrent": _OFF_POLICY_MEMORY | {"gamma": 0.9, "sequence_length": 32},
        "window": _OFF_POLICY_MEMORY | {"gamma": 0.9, "batch_size": 128, "window": 3,
                                        "summary": "stack", "update_ratio": 1.0},
    },
}  # fmt: skip


# CleanRL's ppo_continuous_action: its 2048 steps of one environment are 256 of eight here.
_MUJOCO_PPO: Preset = {
    "num_envs": 8, "num_steps": 256, "batch_size": 64, "epochs": 10, "learning_rate": 3e-4,
    "gamma": 0.99, "gae_lambda": 0.95, "clip_range": 0.2, "value_clip": 0.2, "entropy_coef": 0.0,
    "normalise_obs": True, "normalise_reward": True,
}  # fmt: skip
_MUJOCO_MEMORY: Preset = _MUJOCO_PPO | {
    "batch_size": 256,
    "sequence_length": 64,
    "shortcut": True,
    "hidden": (64,),
}
# CleanRL's td3, ddpg and sac for continuous actions.
_MUJOCO: dict[str, Preset] = {
    "ddpg": {"learning_rate": 3e-4, "learning_starts": 25_000, "num_steps": 1000},
    "td3": {"learning_rate": 3e-4, "learning_starts": 25_000, "num_steps": 1000},
    "sac": {"learning_rate": 1e-3, "actor_learning_rate": 3e-4, "learning_starts": 5000,
            "num_steps": 1000},
}  # fmt: skip
_MUJOCO_NAMES = ("HalfCheetah-v5", "Walker2d-v5", "Hopper-v5", "InvertedPendulum-v5",
                 "InvertedDoublePendulum-v5")  # fmt: skip
for _name in _MUJOCO_NAMES:
    _PRESETS[_name] = {"none": _MUJOCO_PPO, "recurrent": _MUJOCO_MEMORY}


# CleanRL's ppo_atari and ppo_atari_lstm.
_ATARI: dict[str, Preset] = {
    "none": {"num_envs": 8, "num_steps": 128, "batch_size": 256, "epochs": 4, "clip_range": 0.1,
             "learning_rate": 2.5e-4, "value_clip": 0.1, "entropy_coef": 0.01, "hidden": (),
             "reward_clip": 1.0, "episodic_life": True, "threads": 0},
}  # fmt: skip
_ATARI["recurrent"] = _ATARI["none"] | {"frame_stack": 1, "memory_hidden": 128}


def preset(algo: str, env: str, memory: str) -> Preset:
    """Field values for an environment, empty where none are known."""
    general = "none" if memory == "none" else "recurrent"
    if env.startswith("ALE/"):
        return dict(_ATARI[general]) if algo == "ppo" else {}
    table = _PRESETS if algo == "ppo" else _DQN if algo == "dqn" else _OFF_POLICY
    if env in _MUJOCO_NAMES and algo in _MUJOCO:
        return dict(_MUJOCO[algo])
    kinds = table.get(env.removeprefix("retain/"), {})
    return dict(kinds.get(memory, kinds.get(general, {})))
