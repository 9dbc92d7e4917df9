"""Encoding each day once: what it saves is measured on the work that it replaces."""

import torch

from benchmarks import defaults, encoding
from benchmarks.synthetic_market import random_walk, society

torch.set_num_threads(1)


def test_encoding_every_book_costs_more_the_more_books_a_day_has() -> None:
    made = society(random_walk(60, 10), defaults.mandates(), defaults.settings())
    found = encoding.run(made, repeats=3, days=16, books=(2, 8, 32))
    assert [row[0] for row in found.rows] == ["2", "8", "32"]
    assert found.figures["gain"] > 2.0
    assert found.figures["plain_exponent"] > found.figures["shared_exponent"] + 0.3
