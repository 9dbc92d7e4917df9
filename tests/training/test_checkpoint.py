"""What an interrupted run leaves behind."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from market.errors import InputError
from training.checkpoint import Checkpoint, check_config, write_config
from training.society import Society


def test_a_finished_part_is_not_trained_again(
    society_of: Callable[..., Society], tmp_path: Path
) -> None:
    society = society_of()
    networks = society.new_networks(1)
    calls = []
    for _ in range(2):
        checkpoint = Checkpoint(tmp_path, society.network)
        found = checkpoint.networks("inner-warm_start", lambda: calls.append(1) or networks)
        for policy, network in networks.items():
            for name, value in network.state_dict().items():
                assert torch.equal(found[policy].state_dict()[name], value)
    assert calls == [1]


def test_a_part_that_fails_leaves_nothing(
    society_of: Callable[..., Society], tmp_path: Path
) -> None:
    checkpoint = Checkpoint(tmp_path, society_of().network)

    def fails() -> dict[str, torch.nn.Module]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        checkpoint.networks("inner-warm_start", fails)
    assert not list(checkpoint.folder.iterdir())


def test_the_last_whole_state_stays_when_saving_the_next_one_fails(
    society_of: Callable[..., Society], tmp_path: Path
) -> None:
    checkpoint = Checkpoint(tmp_path, society_of().network)
    assert checkpoint.running("inner-rl") is None
    for number in range(12):
        checkpoint.save_running("inner-rl", lambda f, n=number: (f / "n").write_text(str(n)))

    def dies(folder: Path) -> None:
        (folder / "n").write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        checkpoint.save_running("inner-rl", dies)
    kept = checkpoint.running("inner-rl")
    assert kept is not None
    assert (kept / "n").read_text() == "11"
    assert checkpoint.running("final-rl") is None


def test_a_run_goes_on_only_under_its_own_configuration(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no run to go on with"):
        check_config(tmp_path, {"seed": 1})
    write_config(tmp_path, {"seed": 1, "algorithm": {"steps": 10}})
    check_config(tmp_path, {"seed": 1, "algorithm": {"steps": 10}})
    with pytest.raises(InputError, match=r"algorithm.steps is 20, recorded as 10"):
        check_config(tmp_path, {"seed": 1, "algorithm": {"steps": 20}})
