"""Products by oneDNN are products, in values and gradients."""

import pytest
import torch
import torch.nn.functional as F

from retain.ops import products
from retain.ops.products import LARGE, is_large, large_product, linear, matmul

needs_onednn = pytest.mark.skipif(
    not products.HAS_ONEDNN, reason="torch without oneDNN, or a processor without AVX-512"
)


def relative_gap(ours, reference):
    return float(
        (ours.detach().double() - reference.detach()).abs().max() / reference.detach().abs().max()
    )


@needs_onednn
@pytest.mark.parametrize("activation", ["none", "relu", "tanh"])
@pytest.mark.parametrize("transposed", [False, True])
def test_large_products_are_those_of_double_precision(activation, transposed):
    torch.manual_seed(0)
    a, b, bias = torch.randn(200, 120), torch.randn(120, 130) / 11, torch.randn(130)
    if transposed:
        a, b = a.mT.contiguous().mT, b.mT.contiguous().mT
    reference = a.double() @ b.double() + bias
    if activation != "none":
        reference = getattr(torch, activation)(reference)
    assert relative_gap(large_product(a, b, bias, activation), reference) < 2e-6
    if activation == "none":
        assert relative_gap(large_product(a, b), reference - bias) < 1e-6


def test_only_large_float32_products_on_a_cpu_go_to_onednn(monkeypatch):
    monkeypatch.setattr(products, "ONEDNN", True)
    x = torch.zeros(1)
    assert is_large(x, LARGE // 64, 64)
    assert not is_large(x, LARGE // 64 - 1, 64)
    assert not is_large(x.double(), LARGE, 64)
    assert not is_large(x.to("meta"), LARGE, 64)
    monkeypatch.setattr(products, "ONEDNN", False)
    assert not is_large(x, LARGE, 64)


@needs_onednn
@pytest.mark.parametrize("lead", [(512,), (16, 32)])
def test_linear_is_torchs_linear_with_its_gradients(lead, monkeypatch):
    calls = []
    monkeypatch.setattr(products, "ONEDNN", True)
    monkeypatch.setattr(products, "large_product", lambda *a: calls.append(a) or large_product(*a))
    torch.manual_seed(0)
    x = torch.randn(*lead, 96, requires_grad=True)
    weight, bias = torch.randn(96, 96, requires_grad=True), torch.randn(96, requires_grad=True)
    pull = torch.randn(*lead, 96)
    ours = torch.autograd.grad((linear(x, weight, bias) * pull).sum(), [x, weight, bias])
    assert len(calls) == 3
    wide = [t.detach().double().requires_grad_() for t in (x, weight, bias)]
    theirs = torch.autograd.grad((F.linear(*wide) * pull).sum(), wide)
    for one, other in zip(ours, theirs, strict=True):
        assert relative_gap(one, other) < 1e-6
    with torch.no_grad():
        assert torch.equal(linear(x, weight, bias), linear(x.detach(), weight, bias))
    assert len(calls) == 5


@pytest.mark.parametrize("vendor", ["GenuineIntel", "AuthenticAMD"])
def test_an_intel_processor_is_known_by_its_vendor(vendor, monkeypatch, tmp_path):
    cpuinfo = tmp_path / "cpuinfo"
    monkeypatch.setattr(products, "Path", lambda name: cpuinfo)
    monkeypatch.setattr(products.platform, "processor", lambda: f"family 6, {vendor}")
    assert products._is_intel() == (vendor == "GenuineIntel")
    cpuinfo.write_text(f"processor\t: 0\nvendor_id\t: {vendor}\n")
    monkeypatch.setattr(products.platform, "processor", lambda: "x86_64")
    assert products._is_intel() == (vendor == "GenuineIntel")


def test_small_and_stacked_products_are_torchs():
    a, b = torch.randn(3, 4, 5), torch.randn(3, 5, 6)
    assert torch.equal(matmul(a, b), a @ b)
    assert torch.equal(matmul(a[0], b[0]), a[0] @ b[0])
