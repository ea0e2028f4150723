"""Which kernels run: what OpenVINO's counters are read as."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bench import kernels
from bench.kernels import Kernel, Node, Profile


@pytest.mark.parametrize(
    ("executed_as", "implementation", "precision"),
    [
        ("brgemm_avx512_BF16", "brgemm_avx512", "BF16"),
        ("jit_avx512_FP32", "jit_avx512", "FP32"),
        ("ref_any_i8", "ref_any", "i8"),
        ("unknown", "unknown", ""),
    ],
)
def test_the_last_part_is_the_precision(executed_as: str, implementation: str, precision: str) -> None:
    assert kernels.kernel_of(Node("MatMul", executed_as, 1.0)) == Kernel("MatMul", implementation, precision)


def test_a_profile_has_what_each_kernel_took_undisturbed() -> None:
    first, second, third = ([Node("MatMul", "gemm_f32", s), Node("MatMul", "gemm_f32", 1.0)] for s in (1.0, 2.0, 9.0))
    profile = kernels.profile_of([[*nodes, Node("Add", "jit_bf16", 1.0)] for nodes in (first, second, third)], 4.5)
    assert profile.seconds == {Kernel("MatMul", "gemm", "f32"): 2.0, Kernel("Add", "jit", "bf16"): 1.0}
    assert profile.num_nodes[Kernel("MatMul", "gemm", "f32")] == 2
    assert profile.by_precision() == pytest.approx({"f32": 2 / 3, "bf16": 1 / 3})


def test_a_slower_precision_and_what_it_runs_are_seen() -> None:
    exact = Profile({Kernel("MatMul", "brgemm_avx512", "f32"): 0.1}, {Kernel("MatMul", "brgemm_avx512", "f32"): 3}, 0.1)
    slow = Kernel("MatMul", "ref", "f32")
    half = Profile(
        {slow: 0.15, Kernel("Reorder", "jit", "bf16"): 0.05}, {slow: 3, Kernel("Reorder", "jit", "bf16"): 6}, 0.2
    )
    shown = kernels.show({"fp32": exact, "bf16": half}, top=1)
    assert "| bf16 | 200.0 ms | 0.50× | f32 75%, bf16 25% |" in shown
    assert "| MatMul | ref | f32 | 3 | 150.00 | 75.0% |" in shown
    assert "Reorder" not in shown


def test_a_real_network_is_counted_node_by_node(tmp_path: Path) -> None:
    """The kernels of a product of matrices take time, in the precision that was asked for."""
    import openvino
    from openvino import opset13 as opset

    given = opset.parameter([1, 256], np.float32)
    weights = opset.constant(np.ones((256, 256), np.float32))
    path = tmp_path / "network.xml"
    openvino.save_model(
        openvino.Model([opset.matmul(given, weights, False, False)], [given]), path, compress_to_fp16=False
    )
    profile = kernels.measure(path, "fp32", np.ones((1, 256), np.float32))
    (product,) = [kernel for kernel in profile.seconds if kernel.operation in ("MatMul", "FullyConnected")]
    assert product.precision.casefold() in ("f32", "fp32")
    assert profile.kernels_s > 0 and profile.pass_s > 0
