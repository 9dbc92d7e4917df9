"""How long a policy takes to act for one book on one day, in ONNX and in torch."""

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

from agents.artefact import Artefact
from agents.observation import Blocks
from agents.onnx_export import Exported, mean
from benchmarks.measure import Result, interleaved

REPEATS, CALLS = (
    15,
    20,
)  # timings of as many calls each: one alone is shorter than the clock's noise


def run(trained: Artefact, exported: Mapping[str, Exported], seen: Mapping[str, Blocks]) -> Result:
    """Time every policy both ways.

    Args:
        trained: the artefact.
        exported: its policies in ONNX.
        seen: by policy, what they were compared on; the last of it is acted on.
    """
    policies, rows = {}, []
    for policy, one in exported.items():
        network, day = trained.networks[policy], Blocks(*(block[-1:] for block in seen[policy]))
        works = {"onnx": partial(one.act, day), "torch": partial(mean, network, day)}
        with _quick_collections():
            timings = interleaved({name: _repeated(work) for name, work in works.items()}, REPEATS)
        onnx_ms, torch_ms = (round(1e3 * timings[name].median / CALLS, 4) for name in works)
        policies[policy] = {
            "max_abs_diff": one.max_abs_diff,
            "states": len(seen[policy].book),
            "onnx_ms": onnx_ms,
            "torch_ms": torch_ms,
        }
        rows.append((policy, f"{one.max_abs_diff:.1e}", f"{onnx_ms:.3f}", f"{torch_ms:.3f}"))
    figures = {
        "max_abs_diff": max(one.max_abs_diff for one in exported.values()),
        "assets": next(iter(seen.values())).investable.shape[-1],
        "artefact_sha256": trained.sha256,
        "policies": policies,
    }
    columns = ("policy", "largest difference", "ONNX, ms", "torch, ms")
    return Result("export", figures, columns, tuple(rows))


@contextmanager
def _quick_collections() -> Iterator[None]:
    """Leave what is there out of garbage collections: an exporter leaves half a second of it."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _repeated(work: Callable[[], object]) -> Callable[[], None]:
    def often() -> None:
        for _ in range(CALLS):
            work()

    return often
