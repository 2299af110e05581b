"""Gradient reversal is exact, λ acts once and in one place, and the probe tells a beaten discriminator from a dead one."""
import math

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck, gradgradcheck

from xlt_lib.data.errors import DataError
from xlt_lib.encoders.batches import IGNORE
from xlt_lib.transfer.adversarial import (SCHEDULES, Discriminator, centre, fresh_probe, guessing_loss, language_means,
                                          reverse_gradient)
from xlt_lib.transfer.heads import cross_entropy, mean_pool

LANGUAGES = ("en", "sw", "zu")


def setting(seed=0, size=6, rows=9, length=5):
    "An encoder, states of padded rows, and languages."
    torch.manual_seed(seed)
    mask = torch.ones(rows, length, dtype=torch.long)
    mask[::2, 3:] = 0
    return nn.Linear(size, size), torch.randn(rows, length, size), mask, torch.arange(rows) % 3


def grads(encoder, critic, x, mask, labels):
    "Gradients of both sides after one backward pass of the discriminator's loss."
    for p in (*encoder.parameters(), *critic.parameters()): p.grad = None
    critic.loss(encoder(x), mask, labels).backward()
    return [p.grad.clone() for p in encoder.parameters()], [p.grad.clone() for p in critic.parameters()]


def plain(encoder, critic, x, mask, labels):
    "The same without any reversal layer."
    for p in (*encoder.parameters(), *critic.parameters()): p.grad = None
    cross_entropy(critic.layers(mean_pool(encoder(x), mask)), labels).backward()
    return [p.grad.clone() for p in encoder.parameters()], [p.grad.clone() for p in critic.parameters()]


def test_forward_is_the_identity():
    x = torch.randn(4, 3)
    assert torch.equal(reverse_gradient(x, 0.7), x)


@pytest.mark.parametrize("scale", [0.0, 0.01, 0.5, 1.0, 30.0])
@pytest.mark.parametrize("seed", range(3))
def test_backward_is_minus_lambda_times_the_gradient_once_and_only_for_the_encoder(scale, seed):
    encoder, x, mask, labels = setting(seed)
    critic = Discriminator(6, LANGUAGES, hidden=16, scale=scale)
    encoder_plain, critic_plain = plain(encoder, critic, x, mask, labels)
    encoder_turned, critic_turned = grads(encoder, critic, x, mask, labels)
    for a, b in zip(critic_turned, critic_plain): assert torch.equal(a, b)      # λ never slows the discriminator down
    for a, b in zip(encoder_turned, encoder_plain): assert torch.allclose(a, -scale * b, rtol=1e-5, atol=1e-9)
    if scale in (0.5, 1.0):                                                     # powers of two: nothing is rounded
        for a, b in zip(encoder_turned, encoder_plain): assert torch.equal(a, -scale * b)


def test_gradcheck_objects_to_one_reversal_and_accepts_two():
    x = torch.randn(3, 4, dtype=torch.double, requires_grad=True)
    twice = lambda t: reverse_gradient(reverse_gradient(t, 1.0), 1.0).sin()
    assert gradcheck(twice, (x,)) and gradgradcheck(twice, (x,))
    assert not gradcheck(lambda t: reverse_gradient(t, 1.0).sin(), (x,), raise_exception=False)
    assert gradcheck(lambda t: t - reverse_gradient(t, 0.0) + reverse_gradient(t, 0.0).detach(), (x,))     # λ = 0 is `detach`


def test_one_step_equals_the_two_opposed_steps_of_a_minimax_game():
    "Encoder: task − λ·discriminator, discriminator: its own loss. One backward pass through the layer gives both gradients."
    encoder, x, mask, labels = setting()
    critic, head, scale = Discriminator(6, LANGUAGES, hidden=16, scale=0.3), nn.Linear(6, 2), 0.3
    task = lambda: nn.functional.cross_entropy(head(mean_pool(encoder(x), mask)), labels % 2)
    game = lambda: cross_entropy(critic.layers(mean_pool(encoder(x), mask)), labels)
    wanted = torch.autograd.grad(task() - scale * game(), list(encoder.parameters()))
    wanted_critic = torch.autograd.grad(game(), list(critic.parameters()))
    (task() + critic.loss(encoder(x), mask, labels)).backward()
    for p, g in zip(encoder.parameters(), wanted): assert torch.allclose(p.grad, g, atol=1e-7)
    for p, g in zip(critic.parameters(), wanted_critic): assert torch.allclose(p.grad, g, atol=1e-7)


@pytest.mark.parametrize("scale", [-0.1, math.nan, math.inf])
def test_a_lambda_that_is_none_is_refused(scale):
    with pytest.raises(DataError, match="0 or more, and finite"): reverse_gradient(torch.zeros(2), scale)


def test_schedules():
    critic = Discriminator(4, LANGUAGES, scale=2.0, schedule="ganin")
    seen = []
    for critic.progress in (0.0, 0.1, 0.5, 1.0): seen.append(critic.strength)
    assert seen[0] == 0 and seen == sorted(seen)
    assert seen[1] == pytest.approx(2 * (2 / (1 + math.exp(-1)) - 1)) and seen[3] == pytest.approx(2, abs=1e-3)
    assert all(SCHEDULES["constant"](p) == 1 for p in (0, 0.5, 1))
    with pytest.raises(DataError, match="ganin"): Discriminator(4, LANGUAGES, schedule="gannin")
    with pytest.raises(DataError, match="fewer than two"): Discriminator(4, ("en",))


def test_the_discriminator_has_two_hidden_layers_reads_no_padding_and_ignores_unlabelled_rows():
    encoder, x, mask, labels = setting()
    critic = Discriminator(6, LANGUAGES, hidden=16)
    assert [tuple(m.weight.shape) for m in critic.layers if isinstance(m, nn.Linear)] == [(16, 6), (16, 16), (3, 16)]
    wild = torch.where(mask.bool().unsqueeze(-1), x, torch.full_like(x, 1e3))
    assert torch.allclose(critic(wild, mask), critic(x, mask), atol=1e-5)
    some = torch.where(labels == 1, IGNORE, labels)
    assert torch.allclose(critic.loss(x, mask, some), critic.loss(x[labels != 1], mask[labels != 1], labels[labels != 1]))


def test_what_a_guess_costs():
    assert guessing_loss([5] * 9) == pytest.approx(math.log(9))
    assert guessing_loss([10, 0, 0]) == 0
    assert guessing_loss([90, 10]) == pytest.approx(-0.9 * math.log(0.9) - 0.1 * math.log(0.1))


def clouds(rows=600, gap=3.0, seed=0):
    g = torch.Generator().manual_seed(seed)
    labels = torch.arange(rows) % 3
    return torch.randn(rows, 6, generator=g) + gap * nn.functional.one_hot(labels, 6), labels


def test_the_probe_finds_what_is_there_and_nothing_else():
    x, labels = clouds()
    assert fresh_probe(x, labels) > 0.9
    assert fresh_probe(clouds(gap=0.0)[0], labels) < 0.45
    assert fresh_probe(x, labels) == fresh_probe(x, labels)
    few = torch.cat([torch.arange(0, 600, 3), torch.arange(1, 60, 3), torch.arange(2, 60, 3)])   # 200, 20 and 20 rows
    assert fresh_probe(x[few], labels[few]) > 0.8 and fresh_probe(clouds(gap=0.0)[0][few], labels[few]) < 0.5
    with pytest.raises(DataError, match="both halves"): fresh_probe(x[:4], torch.tensor([0, 0, 0, 1]))


def test_the_probe_leaves_the_random_numbers_and_the_vectors_alone():
    x, labels = clouds()
    x.requires_grad_(True); torch.manual_seed(3); before = torch.rand(1); torch.manual_seed(3)
    with torch.no_grad(): fresh_probe(x, labels)
    assert torch.equal(torch.rand(1), before) and x.grad is None


def test_the_probe_tells_a_dead_discriminator_from_a_beaten_one():
    "Both end at the loss of a guess; the language is still there for a probe in one case only."
    x, labels = clouds(gap=1.5)
    x, found, losses = torch.cat([x, torch.randn(600, 1)], 1).unsqueeze(1), {}, {}
    mask = torch.ones(600, 1)
    for name in ("beaten", "dead"):
        torch.manual_seed(0)
        encoder, critic = nn.Linear(7, 1, bias=False), Discriminator(1, LANGUAGES, hidden=32, scale=1.0)
        if name == "dead": nn.init.constant_(critic.layers[0].bias, -1000.0)
        optimizer = torch.optim.Adam([*encoder.parameters(), *critic.parameters()], lr=0.02)
        for _ in range(300):
            optimizer.zero_grad(); losses[name] = critic.loss(encoder(x), mask, labels); losses[name].backward(); optimizer.step()
        found[name] = fresh_probe(encoder(x)[:, 0], labels)
    assert all(abs(loss.item() - math.log(3)) < 0.05 for loss in losses.values()), losses
    assert found["beaten"] < 0.45 < found["dead"] - 0.05, found


def test_centring_takes_away_exactly_the_means():
    x, labels = clouds()
    means = language_means(x, labels, 4)
    assert torch.allclose(means[1], x[labels == 1].mean(0), atol=1e-5) and not means[3].any()
    assert language_means(centre(x, labels, means), labels, 3).abs().max() < 1e-5
    states = x.reshape(200, 3, 6)
    assert torch.allclose(centre(states, labels[:200], means)[5, 2], states[5, 2] - means[labels[5]])
