"""Operations and bytes are counted as by hand."""

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.arithmetic import Count, count, nbytes


def test_a_product_is_two_operations_for_each_term() -> None:
    left, right = torch.ones(3, 5), torch.ones(5, 7)
    expected = Count(double=0, other=2 * 3 * 5 * 7, bytes=4 * (15 + 35 + 21))
    assert count(lambda: left @ right) == expected


def test_an_operator_is_one_operation_an_element_and_reads_and_writes_it() -> None:
    prices = torch.ones(10, 4, dtype=torch.float64)
    assert count(lambda: prices * 2.0) == Count(double=40, other=0, bytes=8 * 80)
    assert count(lambda: prices.sum(-1)) == Count(double=40, other=0, bytes=8 * (40 + 10))


def test_a_view_costs_nothing_and_a_copy_only_bytes() -> None:
    prices = torch.ones(10, 4, dtype=torch.float64)
    assert count(lambda: prices[2:].transpose(0, 1).unsqueeze(0)) == Count(0, 0, 0)
    assert count(prices.clone) == Count(0, 0, bytes=8 * 80)


def test_a_gather_reads_the_rows_that_it_takes() -> None:
    table, row = torch.ones(1000, 4), torch.tensor([3, 5])
    gathered = 4 * 2 * 4
    assert count(lambda: table[row]).bytes == 2 * gathered + 2 * 8


def test_the_backward_pass_is_counted() -> None:
    weight = torch.ones(5, 7, requires_grad=True)
    inputs = torch.ones(3, 5)

    def work() -> None:
        torch.autograd.backward((inputs @ weight).sum())

    assert count(work).other >= 2 * (2 * 3 * 5 * 7)


@dataclass
class Pair:
    first: Tensor
    second: Tensor


def test_a_tensor_that_is_named_twice_has_its_bytes_once() -> None:
    shared, own = torch.ones(10), torch.ones(3, dtype=torch.float64)
    assert nbytes(Pair(shared, own), {"again": shared}, "words", None) == 4 * 10 + 8 * 3
