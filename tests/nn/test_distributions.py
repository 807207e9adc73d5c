"""Values and gradients against torch.distributions and quadrature."""

import math

import pytest
import torch
from torch import distributions as reference

from retain.nn.distributions import (
    Bernoulli,
    Categorical,
    DiagonalGaussian,
    MultiCategorical,
    SquashedGaussian,
    StateDependentGaussian,
    draw_exploration,
)
from retain.ops import score_function_entropy

SHAPE = (3, 4)


def case(name, seed=0):
    """Ours, torch's, and the leaf parameters, twice independent by seed."""
    torch.manual_seed(seed)
    if name == "categorical":
        logits = torch.randn(*SHAPE, 5, requires_grad=True)
        return Categorical(logits), reference.Categorical(logits=logits), (logits,)
    if name == "multi":
        logits = torch.randn(*SHAPE, 5, requires_grad=True)
        first, second = logits.split((2, 3), -1)
        both = (reference.Categorical(logits=first), reference.Categorical(logits=second))
        return MultiCategorical(logits, (2, 3)), both, (logits,)
    if name == "bernoulli":
        logits = torch.randn(*SHAPE, 5, requires_grad=True)
        theirs = reference.Independent(reference.Bernoulli(logits=logits), 1)
        return Bernoulli(logits), theirs, (logits,)
    mean = torch.randn(*SHAPE, 2, requires_grad=True)
    log_std = torch.randn(2, requires_grad=True)
    theirs = reference.Independent(reference.Normal(mean, log_std.exp()), 1)
    return DiagonalGaussian(mean, log_std), theirs, (mean, log_std)


def theirs_of(theirs, what, *args):
    if isinstance(theirs, tuple):
        parts = [arg.unbind(-1) for arg in args]
        return sum(getattr(one, what)(*(p[i] for p in parts)) for i, one in enumerate(theirs))
    if what == "log_prob":
        args = tuple(a.float() if a.dtype == torch.int8 else a for a in args)
    return getattr(theirs, what)(*args)


def assert_same(ours, theirs, leaves):
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    gradients = [torch.autograd.grad(x.sum(), leaves, allow_unused=True) for x in (ours, theirs)]
    for one, other in zip(*gradients, strict=True):
        if one is None or other is None:
            assert one is other or not (one if other is None else other).any()
        else:
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


NAMES = ("categorical", "multi", "bernoulli", "gaussian")


@pytest.mark.parametrize("name", NAMES)
def test_log_prob_and_entropy_equal_torchs_with_gradients(name):
    ours, theirs, leaves = case(name)
    action = ours.sample(torch.Generator().manual_seed(1))
    assert ours.log_prob(action).shape == SHAPE
    assert_same(ours.log_prob(action), theirs_of(theirs, "log_prob", action), leaves)
    ours, theirs, leaves = case(name)
    assert ours.entropy().shape == SHAPE
    assert_same(ours.entropy(), theirs_of(theirs, "entropy"), leaves)


@pytest.mark.parametrize("name", NAMES)
def test_kl_equals_torchs(name):
    (one, reference_one, _), (two, reference_two, _) = case(name, 0), case(name, 1)
    kl = reference.kl_divergence
    if isinstance(reference_one, tuple):
        expected = sum(kl(a, b) for a, b in zip(reference_one, reference_two, strict=True))
    else:
        expected = kl(reference_one, reference_two)
    torch.testing.assert_close(one.kl(two), expected, atol=1e-5, rtol=1e-5)
    assert torch.all(one.kl(one).abs() < 1e-6)


def test_samples_follow_their_distribution():
    generator = torch.Generator().manual_seed(0)
    probability = torch.tensor([0.1, 0.2, 0.7])
    draws = Categorical(probability.log().expand(200_000, 3)).sample(generator)
    share = torch.bincount(draws, minlength=3) / 200_000
    torch.testing.assert_close(share, probability, atol=0.005, rtol=0)
    bits = Bernoulli(torch.tensor([0.0, 2.0]).expand(200_000, 2)).sample(generator).float()
    torch.testing.assert_close(
        bits.mean(0), torch.sigmoid(torch.tensor([0.0, 2.0])), atol=0.005, rtol=0
    )
    normal = DiagonalGaussian(torch.full((200_000, 1), 2.0), torch.tensor([math.log(0.5)]))
    draws = normal.sample(generator)
    assert draws.mean().item() == pytest.approx(2.0, abs=0.01)
    assert draws.std().item() == pytest.approx(0.5, abs=0.01)
    assert not draws.requires_grad


@pytest.mark.parametrize("name", NAMES)
def test_the_same_generator_state_gives_the_same_action(name):
    ours, _, _ = case(name)
    one, two = (ours.sample(torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(one, two)


def test_mode_is_the_most_probable_action():
    assert Categorical(torch.tensor([0.0, 2.0, 1.0])).mode().item() == 1
    assert MultiCategorical(torch.tensor([0.0, 2.0, 5.0, 1.0]), (2, 2)).mode().tolist() == [1, 0]
    assert Bernoulli(torch.tensor([-1.0, 1.0])).mode().tolist() == [0, 1]
    mean = torch.tensor([0.3, -0.3])
    assert torch.equal(DiagonalGaussian(mean, torch.zeros(2)).mode(), mean)


def test_a_masked_action_is_impossible_and_breaks_no_gradient():
    logits = torch.randn(1000, 4, requires_grad=True)
    mask = torch.tensor([True, False, True, False]).expand(1000, 4)
    dist = Categorical(logits, mask)
    actions = dist.sample(torch.Generator().manual_seed(0))
    assert set(actions.tolist()) == {0, 2}
    assert not torch.isin(dist.mode(), torch.tensor([1, 3])).any()
    small = Categorical(logits[:, [0, 2]])
    torch.testing.assert_close(dist.entropy(), small.entropy())
    torch.testing.assert_close(dist.log_prob(actions), small.log_prob(actions // 2))
    other = Categorical(torch.randn(1000, 4), mask)
    (dist.entropy().sum() + dist.log_prob(actions).sum() + dist.kl(other).sum()).backward()
    assert torch.isfinite(logits.grad).all()
    assert torch.all(logits.grad[:, [1, 3]] == 0)
    only = Categorical(torch.randn(3), torch.tensor([False, True, False]))
    assert only.entropy().item() == 0.0


def quadrature(function):
    """Integral over u of N(u; mu, sigma) function(u), in float64."""
    u = torch.linspace(-12, 12, 200_001, dtype=torch.float64)
    return torch.trapezoid(function(u), u)


def true_squashed_entropy(mean, log_std):
    def integrand(u):
        log_normal = reference.Normal(mean, log_std.exp()).log_prob(u)
        log_slope = 2 * (math.log(2) - u - torch.nn.functional.softplus(-2 * u))
        return -log_normal.exp() * (log_normal - log_slope)

    return quadrature(integrand)


def squashed_parameters(count):
    mean = torch.tensor([0.5], requires_grad=True)
    log_std = torch.tensor([math.log(0.8)], requires_grad=True)
    return mean, log_std, SquashedGaussian(mean.expand(count, 1), log_std)


def test_squashed_log_prob_is_the_density_of_the_squashed_action():
    _, _, dist = squashed_parameters(1)
    u = torch.linspace(-3, 3, 50).unsqueeze(-1)
    theirs = reference.TransformedDistribution(
        reference.Normal(0.5, 0.8), [reference.TanhTransform()]
    )
    torch.testing.assert_close(
        dist.log_prob(u), theirs.log_prob(torch.tanh(u)).squeeze(-1), atol=1e-3, rtol=1e-4
    )
    far = dist.log_prob(torch.tensor([[40.0]]))
    assert torch.isfinite(far).all()


def test_squashed_entropy_has_the_right_value_and_gradient():
    """The true dH / d(mu, log sigma) at mu .5, sigma .8 is (-.663, .205)."""
    mean = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    log_std = torch.tensor(math.log(0.8), dtype=torch.float64, requires_grad=True)
    entropy = true_squashed_entropy(mean, log_std)
    truth = torch.stack(torch.autograd.grad(entropy, (mean, log_std)))
    assert truth.tolist() == pytest.approx([-0.663, 0.205], abs=1e-3)

    mean32, log_std32, dist = squashed_parameters(400_000)
    estimate = dist.entropy(torch.Generator().manual_seed(0)).mean()
    gradient = torch.cat(torch.autograd.grad(estimate, (mean32, log_std32)))
    assert estimate.item() == pytest.approx(entropy.item(), abs=0.01)
    assert gradient.tolist() == pytest.approx(truth.tolist(), abs=0.01)


def test_score_function_entropy_has_the_right_gradient_and_the_naive_one_none():
    mean, log_std, dist = squashed_parameters(400_000)
    action = dist.sample(torch.Generator().manual_seed(0))
    score = score_function_entropy(dist.log_prob(action)).mean()
    naive = -dist.log_prob(action).mean()
    assert score.item() == pytest.approx(naive.item(), abs=1e-5)  # the same value
    gradient = torch.cat(torch.autograd.grad(score, (mean, log_std)))
    assert gradient.tolist() == pytest.approx([-0.663, 0.205], abs=0.02)
    gradient = torch.cat(torch.autograd.grad(naive, (mean, log_std)))
    assert gradient.tolist() == pytest.approx([0.0, 0.0], abs=0.01)


def test_squashed_kl_is_that_of_the_gaussians():
    mean = torch.randn(7, 2)
    one, two = (SquashedGaussian(mean + s, torch.full((2,), s)) for s in (0.1, 0.4))
    plain_one, plain_two = (DiagonalGaussian(mean + s, torch.full((2,), s)) for s in (0.1, 0.4))
    torch.testing.assert_close(one.kl(two), plain_one.kl(plain_two))


def test_state_dependent_noise_has_the_marginal_it_scores_with():
    torch.manual_seed(0)
    latent, log_std, mean = torch.randn(3), 0.3 * torch.randn(3, 2), torch.randn(2)
    dist = StateDependentGaussian(mean.expand(100_000, 2), latent.expand(100_000, 3), log_std)
    exploration = draw_exploration(log_std, 100_000, torch.Generator().manual_seed(1))
    actions = dist.perturb(exploration)
    torch.testing.assert_close(actions.mean(0), mean, atol=0.02, rtol=0)
    torch.testing.assert_close(actions.std(0), dist.log_std[0].exp(), atol=0.0, rtol=0.02)
    expected = reference.Normal(mean, (latent.square() @ log_std.exp().square()).sqrt())
    torch.testing.assert_close(
        dist.log_prob(actions), expected.log_prob(actions).sum(-1), atol=1e-3, rtol=1e-4
    )


def test_state_dependent_noise_gets_the_right_gradients_and_survives_dead_features():
    torch.manual_seed(0)
    mean, latent = torch.randn(*SHAPE, 2, requires_grad=True), torch.randn(*SHAPE, 3)
    log_std = (0.3 * torch.randn(3, 2)).requires_grad_()
    ours = StateDependentGaussian(mean, latent, log_std)
    std = (latent.square() @ log_std.exp().square() + 1e-6).sqrt()
    theirs = reference.Independent(reference.Normal(mean, std), 1)
    assert_same(ours.entropy(), theirs.entropy(), (log_std,))
    action = ours.sample(torch.Generator().manual_seed(0))
    ours = StateDependentGaussian(mean, latent, log_std)
    std = (latent.square() @ log_std.exp().square() + 1e-6).sqrt()
    theirs = reference.Independent(reference.Normal(mean, std), 1)
    assert_same(ours.log_prob(action), theirs.log_prob(action), (mean, log_std))
    dead = StateDependentGaussian(mean, torch.zeros(*SHAPE, 3), log_std)
    gradient = torch.autograd.grad((dead.entropy() + dead.log_prob(mean)).sum(), log_std)[0]
    assert torch.isfinite(gradient).all()


def test_exploration_noise_comes_from_its_generator_and_holds_no_gradient():
    log_std = torch.randn(3, 2, requires_grad=True)
    one, two = (draw_exploration(log_std, 4, torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(one, two)
    assert one.shape == (4, 3, 2)
    mean = torch.randn(4, 2, requires_grad=True)
    action = StateDependentGaussian(mean, torch.randn(4, 3), log_std).perturb(one)
    assert not one.requires_grad
    assert not action.requires_grad


def test_one_log_std_for_all_actions_counts_for_each():
    mean, log_std = torch.randn(4, 3), torch.tensor([0.3])
    theirs = reference.Independent(reference.Normal(mean, log_std.exp().expand(3)), 1)
    for shared in (log_std, log_std.squeeze()):
        torch.testing.assert_close(DiagonalGaussian(mean, shared).entropy(), theirs.entropy())


def test_masks_reach_every_part_of_a_multi_categorical():
    mask = torch.tensor([True, False, False, True, True]).expand(2000, 5)
    dist = MultiCategorical(torch.zeros(2000, 5), (2, 3), mask)
    actions = dist.sample(torch.Generator().manual_seed(0))
    assert set(map(tuple, actions.tolist())) == {(0, 1), (0, 2)}
    torch.testing.assert_close(dist.entropy(), torch.full((2000,), math.log(2)))
    torch.testing.assert_close(dist.log_prob(actions), torch.full((2000,), -math.log(2)))


def test_log_prob_and_entropy_share_one_log_softmax():
    dist = Categorical(torch.randn(4, 3))
    assert dist.log_probs is dist.log_probs


def test_squash_is_tanh():
    u = torch.linspace(-3, 3, 7)
    torch.testing.assert_close(SquashedGaussian.squash(u), torch.tanh(u))


def test_squashed_log_prob_is_exact_far_from_zero_with_gradient():
    """There log(1 - tanh^2) is 2 log 2 - 2 |u| to every digit; computed plainly it is log 0."""
    u = torch.tensor([[-100.0], [-12.0], [12.0], [100.0]], requires_grad=True)
    mean, log_std = torch.zeros(4, 1), torch.zeros(1)
    log_prob = SquashedGaussian(mean, log_std).log_prob(u)
    slope = log_prob - DiagonalGaussian(mean, log_std).log_prob(u)
    torch.testing.assert_close(slope, 2 * u.abs().squeeze(-1) - 2 * math.log(2))
    gradient = torch.autograd.grad(slope.sum(), u)[0]
    torch.testing.assert_close(gradient, 2 * u.detach().sign())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_log_prob_entropy_and_kl_keep_the_dtype(dtype):
    x, s, latent = torch.randn(4, 3, dtype=dtype), torch.zeros(3, dtype=dtype), torch.ones(4, 2)
    dists = (
        Categorical(x), MultiCategorical(x, (1, 2)), Bernoulli(x), DiagonalGaussian(x, s),
        SquashedGaussian(x, s),
        StateDependentGaussian(x, latent.to(dtype), torch.zeros(2, 3, dtype=dtype)),
    )  # fmt: skip
    for dist in dists:
        generator = torch.Generator().manual_seed(0)
        outs = (dist.log_prob(dist.sample(generator)), dist.entropy(generator), dist.kl(dist))
        assert {out.dtype for out in outs} == {dtype}
        assert {out.shape for out in outs} == {(4,)}


@pytest.mark.parametrize("name", ["categorical", "masked", "multi", "bernoulli", "gaussian", "sde"])
def test_joined_distributions_are_the_parts_one_after_the_other(name):
    def draw(seed):
        if name == "masked":
            torch.manual_seed(seed)
            mask = torch.rand(*SHAPE, 5) > 0.4
            mask[..., 0] = True
            return Categorical(torch.randn(*SHAPE, 5), mask)
        if name == "sde":
            torch.manual_seed(seed)
            return StateDependentGaussian(torch.randn(*SHAPE, 2), torch.randn(*SHAPE, 6), log_std)
        return case(name, seed)[0]

    log_std = torch.randn(6, 2)
    parts = [draw(seed) for seed in (0, 1, 2)]
    if name == "gaussian":  # one parameter for every step
        parts = [DiagonalGaussian(part.mean, parts[0].log_std) for part in parts]
    joined = type(parts[0]).cat(parts)
    action = torch.cat([part.mode() for part in parts])
    torch.testing.assert_close(
        joined.log_prob(action), torch.cat([part.log_prob(part.mode()) for part in parts])
    )
    entropy = joined.entropy()
    assert torch.isfinite(entropy).all()
    torch.testing.assert_close(entropy, torch.cat([part.entropy() for part in parts]))
