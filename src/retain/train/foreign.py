"""Names from other libraries: an unknown name that is one of theirs is answered with ours.

`Stable-Baselines3` also stands for sb3-contrib. Settings are in backticks, so that the command line
can show them as flags.
"""

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

SB3, CLEANRL, TORCHRL = "Stable-Baselines3", "CleanRL", "TorchRL"
RLLIB, RSL = "RLlib", "rsl_rl"

RENAMED: dict[str, tuple[str, str]] = {
    # Rollouts and updates
    "n_steps": (SB3, "num_steps n_step"),
    "n_envs": (SB3, "num_envs"),
    "n_epochs": (SB3, "epochs"),
    "nminibatches": (SB3, "batch_size"),
    "gradient_steps": (SB3, "update_ratio"),
    "update_epochs": (CLEANRL, "epochs"),
    "num_steps_per_env": (RSL, "num_steps"),
    "num_learning_epochs": (RSL, "epochs"),
    "ppo_epochs": (TORCHRL, "epochs"),
    "num_epochs": (f"{RLLIB}'s and {TORCHRL}", "epochs"),
    "num_sgd_iter": (RLLIB, "epochs"),
    "sgd_minibatch_size": (RLLIB, "batch_size"),
    "minibatch_size": (RLLIB, "batch_size"),
    "sub_batch_size": (TORCHRL, "batch_size"),
    "rollout_fragment_length": (RLLIB, "num_steps"),
    "utd_ratio": (TORCHRL, "update_ratio"),
    "max_seq_len": (RLLIB, "sequence_length"),
    "burn_in_length": ("R2D2", "burn_in"),
    # Step sizes and schedules
    "lr": (f"{RLLIB}'s and {TORCHRL}", "learning_rate"),
    "q_lr": (CLEANRL, "learning_rate"),
    "qf_learning_rate": (SB3, "learning_rate"),
    "policy_lr": (CLEANRL, "actor_learning_rate"),
    "actor_lr": (RLLIB, "actor_learning_rate"),
    "critic_lr": (RLLIB, "learning_rate"),
    "grad_clip": (RLLIB, "max_grad_norm"),
    # The loss
    "ent_coef": (SB3, "entropy_coef alpha"),
    "vf_coef": (SB3, "value_coef"),
    "clip_coef": (CLEANRL, "clip_range"),
    "clip_range_vf": (SB3, "value_clip"),
    "clip_epsilon": (TORCHRL, "clip_range"),
    "clip_param": (f"{RLLIB}'s and {RSL}", "clip_range"),
    "vf_clip_param": (RLLIB, "value_clip"),
    "entropy_coeff": (RLLIB, "entropy_coef"),
    "entropy_eps": (TORCHRL, "entropy_coef"),
    "vf_loss_coeff": (RLLIB, "value_coef"),
    "critic_coef": (TORCHRL, "value_coef"),
    "critic_coeff": (TORCHRL, "value_coef"),
    "value_loss_coef": (RSL, "value_coef"),
    "norm_adv": (CLEANRL, "normalise_advantage"),
    "normalize_advantage": (SB3, "normalise_advantage"),
    "lambda_": (RLLIB, "gae_lambda"),
    "lam": (RSL, "gae_lambda"),
    "lmbda": (TORCHRL, "gae_lambda"),
    "discount": ("Acme", "gamma"),
    "polyak": ("Spinning Up", "tau"),
    # Off-policy
    "replay_size": ("Spinning Up", "buffer_size"),
    "buffer_capacity": (TORCHRL, "buffer_size"),
    "start_e": (CLEANRL, "epsilon"),
    "end_e": (CLEANRL, "epsilon_final"),
    "exploration_initial_eps": (SB3, "epsilon"),
    "exploration_final_eps": (SB3, "epsilon_final"),
    "policy_noise": (CLEANRL, "target_noise"),
    "noise_clip": (CLEANRL, "target_noise_clip"),
    "target_policy_noise": (SB3, "target_noise"),
    "policy_frequency": (CLEANRL, "policy_delay"),
    "init_temperature": (TORCHRL, "alpha_init"),
    "initial_alpha": (RLLIB, "alpha_init"),
    "double_q": (RLLIB, "double"),
    "n_quantiles": (SB3, "quantiles"),
    # Networks and memory
    "net_arch": (SB3, "hidden"),
    "fcnet_hiddens": (RLLIB, "hidden"),
    "actor_hidden_dims": (RSL, "hidden"),
    "critic_hidden_dims": (RSL, "hidden"),
    "activation_fn": (SB3, "activation"),
    "fcnet_activation": (RLLIB, "activation"),
    "lstm_hidden_size": (SB3, "memory_hidden"),
    "lstm_cell_size": (RLLIB, "memory_hidden"),
    "rnn_hidden_dim": (RSL, "memory_hidden"),
    "rnn_hidden_size": (RSL, "memory_hidden"),
    "n_lstm_layers": (SB3, "memory_layers"),
    "rnn_num_layers": (RSL, "memory_layers"),
    "rnn_type": (RSL, "memory"),
    "enable_critic_lstm": (SB3, "separate_memory"),
    "lstm_use_prev_action": (RLLIB, "previous_action"),
    "lstm_use_prev_reward": (RLLIB, "previous_reward"),
    "features_extractor_class": (SB3, "encoder"),
    "squash_output": (SB3, "squash"),
    "empirical_normalization": (RSL, "normalise_obs"),
    "normalize_obs": (SB3, "normalise_obs"),
    "norm_obs": (SB3, "normalise_obs"),
    "norm_reward": (SB3, "normalise_reward"),
    "normalize_reward": (SB3, "normalise_reward"),
    # The run
    "env_id": (CLEANRL, "env"),
    "env_name": (TORCHRL, "env"),
    "total_timesteps": (SB3, "steps"),
    "total_frames": (TORCHRL, "steps"),
    "num_workers": (RLLIB, "workers"),
    "num_env_runners": (RLLIB, "workers"),
    "n_stack": (SB3, "frame_stack"),
    "save_interval": (RSL, "checkpoint_every"),
    "save_freq": (SB3, "checkpoint_every"),
    "eval_freq": (SB3, "eval_every"),
    "evaluation_interval": (RLLIB, "eval_every"),
    "callback": (SB3, "callbacks"),
    "progress_bar": (SB3, "progress"),
    "n_eval_episodes": (SB3, "episodes eval_episodes"),
    "eval_episodes": (SB3, "episodes"),
    "observation": (SB3, "obs"),
    "state": (SB3, "carry"),
    "episode_start": (SB3, "reset"),
    "hidden_state": (RSL, "carry state"),
    "done": ("older libraries", "reset"),
    "dones": ("older libraries", "reset"),
}
"""Name -> the library that uses it, and our name; of several, the first known one applies."""

OTHER: dict[str, tuple[str, str]] = {
    "policy": (SB3, "the networks follow from the settings `memory`, `hidden`, `encoder`, ..."),
    "policy_kwargs": (
        SB3,
        "its entries are settings here: `hidden`, `activation`, `memory_hidden`",
    ),
    "model": (RLLIB, "its entries are settings here: `hidden`, `activation`, `memory_hidden`"),
    "use_lstm": (RLLIB, "use `memory`, for example lstm"),
    "shared_lstm": (SB3, "memory is shared unless `separate_memory` is on"),
    "features_extractor_kwargs": (SB3, "set `encoder_hidden`, or give `encoder` a class"),
    "anneal_lr": (CLEANRL, "use `lr_schedule`, for example linear or constant"),
    "schedule": (RSL, "use `lr_schedule`; for its adaptive kind there is `target_kl`"),
    "desired_kl": (RSL, "`target_kl` ends an update early instead of changing the step size"),
    "use_linear_clip_decay": ("Stable-Baselines", "use `clip_schedule`, for example linear"),
    "kl_coeff": (RLLIB, "the loss has no KL penalty; there is `target_kl`"),
    "clip_vloss": (CLEANRL, "`value_clip` is a threshold of its own, in units of return"),
    "use_clipped_value_loss": (RSL, "`value_clip` is a threshold of its own, in units of return"),
    "use_rms_prop": (SB3, "every algorithm steps with Adam"),
    "optimizer_class": (SB3, "every algorithm steps with Adam"),
    "optimizer_kwargs": (SB3, "every algorithm steps with Adam; there is `adam_eps`"),
    "ortho_init": (SB3, "initial weights are the algorithm's own and cannot be chosen"),
    "init_noise_std": (RSL, "use `log_std_init`, its logarithm"),
    "autotune": (CLEANRL, "entropy is tuned unless `alpha` is given"),
    "target_network_frequency": (CLEANRL, "targets follow slowly at every update, by `tau`"),
    "target_update_interval": (SB3, "targets follow slowly at every update, by `tau`"),
    "hard_update_freq": (TORCHRL, "targets follow slowly at every update, by `tau`"),
    "action_noise": (SB3, "use `exploration_noise`, a standard deviation in [-1, 1]"),
    "optimize_memory_usage": (SB3, "the replay stores each observation once; see `buffer_folder`"),
    "rollout_buffer_class": (SB3, "the rollout is the timeline itself and cannot be replaced"),
    "replay_buffer_class": (SB3, "the replay cannot be replaced; there is `prioritized`"),
    "replay_buffer_kwargs": (SB3, "see `buffer_size`, `buffer_folder` and `prioritized`"),
    "stats_window_size": (SB3, "metrics are over the last 100 episodes"),
    "use_expln": (SB3, "gSDE has only its usual form"),
    "normalize_images": (SB3, "images are always scaled to [0, 1]"),
    "vec_env_cls": (SB3, "use `workers`; 0 steps all environments in this process"),
    "monitor_wrapper": (SB3, "every episode's return is counted without a wrapper"),
    "verbose": (SB3, "the command line shows progress; in code, learn(..., progress=True)"),
    "tensorboard_log": (SB3, "learn(..., out=folder) writes TensorBoard events there"),
    "tb_log_name": (SB3, "out=folder names the run"),
    "log_interval": (SB3, "a row is logged at every update"),
    "reset_num_timesteps": (SB3, "step counts continue; a new agent begins at 0"),
    "eval_env": (SB3, "evaluation makes its own environments"),
    "max_iterations": (RSL, "a run's length is given in environment `steps`"),
    "exp_name": (CLEANRL, "use `out`, the run folder"),
    "torch_deterministic": (CLEANRL, "a run is its seed, always"),
    "cuda": (CLEANRL, "use `device`, for example cuda"),
    "num_gpus": (RLLIB, "use `device`, for example cuda"),
    "framework": (RLLIB, "only PyTorch is supported"),
    "track": (CLEANRL, "use `callbacks`, for example wandb"),
    "wandb_project_name": (CLEANRL, "use `callbacks`, for example wandb"),
    "capture_video": (CLEANRL, "every episode can be filmed later: retain playback --video"),
    "_init_setup_model": (SB3, "an agent always makes its networks"),
}
"""Name -> the library that uses it, and our alternative."""

ELSEWHERE = {
    "env": "the first argument",
    "steps": "learn(steps)",
    "callbacks": "learn(steps, callbacks=[...])",
    "progress": "learn(steps, progress=True)",
    "episodes": "evaluate(episodes)",
    "obs": "act(obs, carry, reset)",
    "carry": "act(obs, carry, reset)",
    "reset": "act(obs, carry, reset)",
}
"""Arguments that are not settings, and the call that takes them."""

POLICIES = ("MlpPolicy", "CnnPolicy", "MultiInputPolicy", "MlpLstmPolicy", "CnnLstmPolicy",
            "MultiInputLstmPolicy")  # fmt: skip


def _per_segment(text: str) -> Callable[[float, Mapping[str, Any]], str]:
    """An answer with the arithmetic for the current settings."""

    def answer(count: float, values: Mapping[str, Any]) -> str:
        steps = values["num_envs"] * values["num_steps"]
        size = max(1, int(steps // count))
        return text.format(
            count=f"{count:g}", envs=values["num_envs"], steps=values["num_steps"], all=steps,
            size=size, each=max(1, int(count // values["num_envs"])),
        )  # fmt: skip

    return answer


_MINIBATCHES = _per_segment(
    "`num_envs` {envs} times `num_steps` {steps} are {all} steps a segment, and {count} "
    "minibatches of it are `batch_size` {size}"
)
_SEGMENT = _per_segment(
    "a segment of {count} steps is `num_steps` {each} of each of `num_envs` {envs} environments"
)
COUNTED: dict[str, tuple[str, Callable[[float, Mapping[str, Any]], str]]] = {
    "num_minibatches": (CLEANRL, _MINIBATCHES),
    "num_mini_batches": (RSL, _MINIBATCHES),
    "train_batch_size": (RLLIB, _SEGMENT),
    "train_batch_size_per_learner": (RLLIB, _SEGMENT),
    "frames_per_batch": (TORCHRL, _SEGMENT),
    "train_freq": (
        f"{SB3}'s and {CLEANRL}",
        lambda count, _: f"`update_ratio` {1 / max(count, 1):.3g} updates once in {count:g} steps",
    ),
    "train_frequency": (
        CLEANRL,
        lambda count, _: f"`update_ratio` {1 / max(count, 1):.3g} updates once in {count:g} steps",
    ),
}
"""Name -> the library that uses it, and the arithmetic that answers it."""


def answer(
    name: str, known: Collection[str], given: Any = None, values: Mapping[str, Any] | None = None
) -> str:
    """The meaning here of another library's name; empty if no library uses the name.

    Args:
        known: the names that are valid here.
        given: the given value, which some answers compute with.
        values: the other settings, which some answers compute with.
    """
    if name in RENAMED:
        whose, ours = RENAMED[name]
        fit = [one for one in ours.split() if one in known]
        if fit:
            return f"{_theirs(whose)} name for `{fit[0]}`"
        first = ours.split()[0]
        if first in ELSEWHERE:
            return f"{_theirs(whose)} name for what {ELSEWHERE[first]} takes"
        return f"{_theirs(whose)} name for `{first}`, which does not exist here"
    if name in COUNTED:
        whose, count = COUNTED[name]
        here = {"num_envs": 8, "num_steps": 128} | dict(values or {})
        return f"{_theirs(whose)}: {count(_number(given), here)}"
    if name in OTHER:
        whose, instead = OTHER[name]
        return f"{_theirs(whose)}: {instead}"
    return ""


def _theirs(whose: str) -> str:
    return whose if whose.endswith("libraries") else f"{whose}'s"


def _number(given: Any) -> float:
    """The given number, or a typical one if the value is not a number."""
    try:
        return float(given) or 4.0
    except (TypeError, ValueError):
        return 4.0


def shown(text: str, show: Callable[[str], str] = str) -> str:
    """An answer with its settings in the caller's notation."""
    return re.sub(r"`(\w+)`", lambda match: show(match[1]), text)


def flag(name: str) -> str:
    """A setting as a command-line flag."""
    return "--" + name.replace("_", "-")
