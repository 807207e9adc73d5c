"""Every pitfall, planted into the real code: the check meant for it must catch it.

docs/doctor.md lists them (`python benchmarks/doctor.py --mutants` prints the table).
"""

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import retain
from retain.algos import off_policy, off_policy_losses, optim, policy_gradient, ppo
from retain.data.collector import Collector
from retain.data.replay import Replay
from retain.data.rollout import Rollout
from retain.data.segment import Segment
from retain.doctor.invariants import agent_results
from retain.doctor.memory import memory_results
from retain.doctor.probes import probe_results
from retain.memory import GRU, LSTM, Window, make_memory
from retain.nn import policy as policies
from retain.nn import q_networks as nets
from retain.nn.arrays import ArrayActor
from retain.nn.distributions import DiagonalGaussian, SquashedGaussian
from retain.nn.stacked import StackedMLP
from retain.nn.torso import Torso
from retain.types import tree_map

PARITY, AGAIN = "acting and training agree", "a stored segment comes out the same again"
OWNED, LEARNS = "each parameter has one owner and moves", "the loss reaches the memory"
BOOTSTRAP, REPLAY = "truncations bootstrap from the true successor", "acting and the replay agree"
ENTROPY, TARGETS = "the entropy's gradient", "targets are slow copies"


def ppo_agent(memory="lstm", env="CartPoleNoVel-v1", **settings):
    return retain.PPO(env, memory=memory, **settings)


def sac_agent(memory="lstm", **settings):
    return retain.SAC("PendulumNoVel-v1", memory=memory, **settings)


def ddpg_agent(memory="none", **settings):
    return retain.DDPG("Pendulum-v1", memory=memory, **settings)


@dataclass(frozen=True)
class Mutant:
    """A fault, what it is planted into, and the check that must catch it."""

    name: str
    plant: Any
    check: str
    subject: Any = ppo_agent
    results: Any = agent_results


def wrap(patch, owner, name, around):
    original = getattr(owner, name)
    patch.setattr(owner, name, lambda *args, **named: around(original, *args, **named))


def sequences(change):
    """A fault in what training is given, after the segment was cut."""

    def plant(patch):
        wrap(patch, Rollout, "sequences", lambda real, self, **named: change(real(self, **named)))

    return plant


def reset_late(s):
    return replace(s, reset=s.reset.roll(1, 0))


def zero_carry(s):
    return replace(s, carry=tree_map(torch.zeros_like, s.carry))


def shuffled_time(s):
    def mix(x):
        return x.transpose(0, 1).reshape(x.shape)

    return replace(s, obs=tree_map(mix, s.obs), action=mix(s.action))


def torso_output(change):
    def plant(patch):
        def forward(real, self, *args):
            out, carry = real(self, *args)
            return change(out), carry

        wrap(patch, Torso, "forward", forward)

    return plant


def never_cleared(patch):
    for kind in (LSTM, GRU):
        wrap(patch, kind, "forward",
             lambda real, self, x, carry, reset: real(self, x, carry, torch.zeros_like(reset)))  # fmt: skip


def forgets_segments(patch):
    def collect(real, self, steps):
        for stream in self.streams:
            stream.carry = tree_map(torch.zeros_like, stream.carry)
        return real(self, steps)

    wrap(patch, Collector, "collect", collect)


def gae_with(**changes):
    def plant(patch):
        def wrong(real, **named):
            return real(**named | {k: f(named) for k, f in changes.items()})

        wrap(patch, policy_gradient, "gae", wrong)

    return plant


def bootstrap_after_reset(patch):
    def value(real, self, *args):
        kept, self.stream.carry = self.stream.carry, tree_map(torch.zeros_like, self.stream.carry)
        out = real(self, *args)
        self.stream.carry = kept
        return out

    wrap(patch, Segment, "successor_value", value)


def bootstrap_from_next_episode(patch):
    def value(real, self, obs, *args):
        return real(self, torch.zeros_like(obs), *args)

    wrap(patch, Segment, "successor_value", value)


def clipped_action(patch):
    def rollout(real, self, *args):
        out = real(self, *args)
        return replace(out, action=out.action.clamp(-0.3, 0.3))

    wrap(patch, Collector, "_rollout", rollout)


def pad_leaks(patch):
    def extended(real, self, x, carry, reset):
        row, number, episode, after = real(self, x, carry, reset)
        kept = self.length - 1
        number = torch.cat((torch.zeros_like(number[:kept]), number[kept:] * 0))
        return row, number, episode * 0, after

    wrap(patch, Window, "_extended", extended)


def double_step(patch):
    def step(real, self, loss, rate, **named):
        norms = real(self, loss, rate, **named)
        self.optimizer.step()
        return norms

    wrap(patch, optim.SafeStep, "__call__", step)


def forgotten_parameter(patch):
    patch.setattr(optim, "check_ownership", lambda *args: None)
    wrap(patch, optim.Adam, "__init__",
         lambda real, self, params, **named: real(self, list(params)[:-1], **named))  # fmt: skip


def shared_target_memory(patch):
    def copied(real, module):
        out = real(module)
        if hasattr(out, "torso") and out.torso is not None:
            out.torso = module.torso
        return out

    wrap(patch, nets, "_frozen_copy", copied)


def target_follows_at_once(patch):
    wrap(patch, torch, "_foreach_lerp_", lambda real, slow, online, tau: real(slow, online, 1.0))


def dropout(patch):
    act_with_the_forward(patch)
    torso_output(lambda x: F.dropout(x, 0.2))(patch)


def act_with_the_forward(patch):
    """The collector itself stops where arrays act and the forward disagrees with them."""
    patch.setattr(ArrayActor, "of", classmethod(lambda *_: None))


def drifting_normaliser(patch):
    act_with_the_forward(patch)

    def forward(real, self, obs, *args):
        if self.policy.normaliser is not None:
            self.policy.normaliser.update(obs)
        return real(self, obs, *args)

    wrap(patch, Segment, "forward", forward)


def looks_ahead(patch):
    def forward(real, self, x, carry, reset):
        out, after = real(self, x, carry, reset)
        return torch.cat((out[1:], out[-1:])), after

    wrap(patch, GRU, "forward", forward)


def evaluation_acts_in_training(patch):
    def evaluate(real, self, *args, **named):
        self.collector.collect(1)
        return real(self, *args, **named)

    wrap(patch, retain.train.agent.Agent, "evaluate", evaluate)


def forgets_the_optimizer(patch):
    patch.setattr(optim.Adam, "restore", lambda self, tensors: None)


def keeps_the_last_action(patch):
    wrap(patch, policies, "previous_inputs",
         lambda real, config, encode, action, reward, reset: real(
             config, encode, action, reward, torch.zeros_like(reset)))  # fmt: skip


def actor_moves_the_critic(patch):
    wrap(patch, StackedMLP, "stacked", lambda real, self, x, *, frozen=False: real(self, x))


def wrong_sign(patch):
    wrap(patch, ppo, "policy_loss",
         lambda real, **named: real(**named | {"advantage": -named["advantage"]}))  # fmt: skip


def value_stands_still(patch):
    def loss(real, **named):
        out = real(**named)
        return replace(out, loss=out.loss * 0.0) if hasattr(out, "__dataclass_fields__") else (
            out._replace(loss=out.loss * 0.0))  # fmt: skip

    wrap(patch, ppo, "value_loss", loss)


def replay_forgets_resets(patch):
    def begin(real, self, obs, mask):
        real(self, obs, mask)
        index = self._env[mask]
        self.flags[(self.written % self.rows)[mask], index] = 0

    wrap(patch, Replay, "begin", begin)


def memory_known_by_name_only(patch):
    """Pieces as for a memory that nobody has heard of: single steps from a zero carry."""

    def pieces(real, config, receptive_field, *, unrolls):
        return replace(real(config, 1, unrolls=False), stride=1)

    wrap(patch, off_policy, "pieces_of", pieces)


def replay_overwrites_the_final_observation(patch):
    def begin(real, self, obs, mask):
        ended = mask & (self.written > 0)
        index, row = self._env[ended], (self.written % self.rows)[ended]
        self._write_obs(obs, row, index)
        real(self, obs, mask)

    wrap(patch, Replay, "begin", begin)


def target_ignores_ends(patch):
    def wrong(real, **named):
        return real(**named | {"terminated": torch.zeros_like(named["terminated"])})

    wrap(patch, off_policy_losses, "n_step_return", wrong)


def target_stops_at_cuts(patch):
    def wrong(real, **named):
        return real(**named | {"terminated": named["terminated"] | named["truncated"]})

    wrap(patch, off_policy_losses, "n_step_return", wrong)


def naive_entropy(patch):
    def entropy(self, generator=None):
        with torch.no_grad():
            action = self.sample(generator)
        return -self.log_prob(action)

    patch.setattr(SquashedGaussian, "entropy", entropy)


def squashed(**settings):
    return ppo_agent("none", "Pendulum-v1", squash=True, use_sde=False, **settings)


def lstm(**_):
    return make_memory("lstm", 5, 8)


def gru(**_):
    return make_memory("gru", 5, 8)


def window(**_):
    return make_memory("window", 5, 8, window=4, summary="stack")


MUTANTS = [
    Mutant("reset a step late in training", sequences(reset_late), PARITY),
    Mutant("zero instead of the stored carry", sequences(zero_carry), PARITY),
    Mutant("time shuffled inside sequences", sequences(shuffled_time), PARITY),
    Mutant("dropout while acting", dropout, PARITY),
    Mutant("carry never cleared", never_cleared, "memory: an episode ends at its reset",
           lstm, memory_results),
    Mutant("carry never cleared, whole agent", never_cleared, "an episode ends at its reset"),
    Mutant("carry dropped between segments", forgets_segments, "the carry crosses segments"),
    Mutant("memory detached", torso_output(torch.Tensor.detach), LEARNS),
    Mutant("truncation taken for termination",
           gae_with(terminated=lambda n: n["terminated"] | n["truncated"]), BOOTSTRAP),
    Mutant("termination bootstrapped",
           gae_with(terminated=lambda n: torch.zeros_like(n["terminated"])), BOOTSTRAP),
    Mutant("bootstrap with the carry of after the reset", bootstrap_after_reset, BOOTSTRAP),
    Mutant("bootstrap from another observation", bootstrap_from_next_episode, BOOTSTRAP),
    Mutant("clipped action stored", clipped_action, AGAIN,
           lambda: ppo_agent("none", "Pendulum-v1", use_sde=False)),
    Mutant("pads of the window leak", pad_leaks, "memory: a reset leaves nothing of the carry",
           window, memory_results),
    Mutant("entropy of stored actions", naive_entropy, ENTROPY, squashed),
    Mutant("entropy of the Gaussian before the squashing",
           lambda patch: patch.setattr(SquashedGaussian, "entropy", DiagonalGaussian.entropy),
           ENTROPY, squashed),
    Mutant("optimizer steps twice", double_step, OWNED),
    Mutant("a parameter without optimizer", forgotten_parameter, OWNED),
    Mutant("value loss without gradient", value_stands_still, OWNED),
    Mutant("target shares the memory", shared_target_memory, TARGETS, sac_agent),
    Mutant("target follows at once", target_follows_at_once, TARGETS, ddpg_agent),
    Mutant("normaliser moves while acting", drifting_normaliser,
           "the normaliser stands still in between", lambda: ppo_agent(normalise_obs=True)),
    Mutant("output of the next step", looks_ahead, "memory: never looks ahead", gru,
           memory_results),
    Mutant("mean over the batch taken away", torso_output(lambda x: x - x.mean(1, keepdim=True)),
           "environments do not mix"),
    Mutant("mean over time taken away", torso_output(lambda x: x - x.mean(0, keepdim=True)),
           "nothing looks ahead"),
    Mutant("evaluation steps the training environments", evaluation_acts_in_training,
           "evaluation leaves training untouched"),
    Mutant("checkpoint without the optimizer", forgets_the_optimizer,
           "a checkpoint restores everything"),
    Mutant("last action kept across a reset", keeps_the_last_action,
           "an episode ends at its reset", lambda: ppo_agent(previous_action=True)),
    Mutant("actor's loss moves the critic", actor_moves_the_critic,
           "the actor's gradient stays with the actor", ddpg_agent),
    Mutant("unbounded memory trained from a zero carry", memory_known_by_name_only,
           "pieces of the replay start where acting was", lambda: ddpg_agent("lstm")),
    Mutant("replay forgets resets", replay_forgets_resets, REPLAY, sac_agent),
    Mutant("replay overwrites final observations", replay_overwrites_the_final_observation,
           BOOTSTRAP, ddpg_agent),
    Mutant("off-policy target ignores terminations", target_ignores_ends, BOOTSTRAP, ddpg_agent),
    Mutant("off-policy target stops at truncations", target_stops_at_cuts, BOOTSTRAP, sac_agent),
    Mutant("no value learned", value_stands_still, "probe: the value of a constant",
           lambda: ppo_agent("none"), probe_results),
    Mutant("gamma ignored", gae_with(gamma=lambda n: 1.0), "probe: discounting",
           lambda: ppo_agent("none"), probe_results),
    Mutant("truncations not bootstrapped",
           gae_with(terminated=lambda n: n["terminated"] | n["truncated"]),
           "probe: truncation is no end", lambda: ppo_agent("none"), probe_results),
    Mutant("advantage with the wrong sign", wrong_sign, "probe: the choice of an action",
           lambda: ppo_agent("none"), probe_results),
]  # fmt: skip


def found(results, name):
    """The verdict of the check of that name; what comes after it is not run."""
    for result in results:
        if result.name == name:
            return result
    raise AssertionError(f"no check is called {name!r}")


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.name)
def test_a_planted_fault_is_caught_by_the_check_meant_for_it(mutant, monkeypatch):
    subject = mutant.subject()
    mutant.plant(monkeypatch)
    if mutant.results is not memory_results:
        subject = mutant.subject()  # some faults are planted into construction
    result = found(mutant.results(subject), mutant.check)
    assert result.verdict == "fail"
    assert result.meaning
    assert result.mend


CLEAN = [ppo_agent, lambda: ppo_agent("none"), lambda: ppo_agent("gru", previous_action=True),
         lambda: ppo_agent("window", "PendulumNoVel-v1", use_sde=False, normalise_obs=True),
         squashed, sac_agent, ddpg_agent, lambda: sac_agent("gru", memory_owner="separate"),
         lambda: retain.TD3("PendulumNoVel-v1", memory="window"),
         lambda: retain.DQN("CartPoleNoVel-v1", memory="lstm"),
         lambda: retain.A2C("PendulumNoVel-v1", memory="lstm", use_sde=True),
         lambda: retain.VTrace("CartPoleNoVel-v1", memory="gru", normalise_reward=True),
         lambda: retain.PQN("CartPoleNoVel-v1", memory="lstm", previous_action=True),
         lambda: retain.QRDQN("CartPoleNoVel-v1", memory="window"),
         lambda: retain.TQC("PendulumNoVel-v1", memory="gru", memory_owner="separate")]  # fmt: skip


@pytest.mark.parametrize("build", CLEAN)
def test_nothing_is_found_where_nothing_is_wrong(build):
    agent = build()
    before = [x.clone() for x in agent.policy.state_dict().values()]
    results = list(agent_results(agent))
    assert [r for r in results if r.verdict != "ok"] == []
    assert all(torch.equal(a, b) for a, b in
               zip(before, agent.policy.state_dict().values(), strict=True))  # fmt: skip


@pytest.mark.parametrize("kind", ["none", "lstm", "gru", "stack", "attention"])
def test_every_memory_of_ours_obeys_its_contract(kind):
    summary = kind if kind in ("stack", "attention") else "lstm"
    memory = make_memory("window" if kind == summary and kind != "lstm" else kind, 5, 8, window=4,
                         summary=summary)  # fmt: skip
    retain.doctor.check_memory(memory)
