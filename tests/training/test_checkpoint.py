"""What an interrupted run leaves behind."""

from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest
import torch

from market.errors import InputError
from training.checkpoint import Checkpoint, check_config, items, write_config
from training.society import Society
from training.store import Store


def test_a_finished_part_is_not_trained_again(
    society_of: Callable[..., Society], tmp_path: Path
) -> None:
    society = society_of()
    networks = society.new_networks(1)
    calls = []
    for _ in range(2):
        checkpoint = Checkpoint(tmp_path, society.network, None, str)
        found = checkpoint.networks("inner-warm_start", lambda: calls.append(1) or networks)
        for policy, network in networks.items():
            for name, value in network.state_dict().items():
                assert torch.equal(found[policy].state_dict()[name], value)
    assert calls == [1]


def test_a_part_that_fails_leaves_nothing(
    society_of: Callable[..., Society], tmp_path: Path
) -> None:
    checkpoint = Checkpoint(tmp_path, society_of().network, None, str)

    def fails() -> dict[str, torch.nn.Module]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        checkpoint.networks("inner-warm_start", fails)
    assert not list(checkpoint.folder.iterdir())


def test_the_last_whole_state_stays_when_saving_the_next_one_fails(
    society_of: Callable[..., Society], tmp_path: Path
) -> None:
    checkpoint = Checkpoint(tmp_path, society_of().network, None, str)
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
    elsewhere = {"kind": "WandbSettings", "experiment": "sweep"}
    check_config(tmp_path, {"seed": 1, "algorithm": {"steps": 10}, "tracking": elsewhere})


def test_the_store_has_what_the_disk_has_after_every_step(
    society_of: Callable[..., Society], tmp_path: Path
) -> None:
    society, store = society_of(), Store(f"memory://{uuid4()}")
    checkpoint = Checkpoint(tmp_path / "run", society.network, store, str)
    for number in range(3):
        checkpoint.save_running("inner-rl", lambda f, n=number: (f / "n").write_text(str(n)))
        here = [item.name for item in items(tmp_path / "run")]
        assert store.items("run") == here == [f"inner-rl.state-{number}"]
    checkpoint.networks("inner-rl", lambda: society.new_networks(1))
    assert store.items("run") == ["inner-rl.safetensors"]
    checkpoint.discard()
    assert store.items("run") == []


def test_a_store_that_fails_costs_no_training_and_keeps_the_copy_that_it_has(
    society_of: Callable[..., Society], tmp_path: Path
) -> None:
    society, said = society_of(), []
    bucket = tmp_path / "bucket"
    store = Store(str(bucket))
    checkpoint = Checkpoint(tmp_path / "run", society.network, store, said.append)
    checkpoint.save_running("inner-rl", lambda folder: (folder / "n").write_text("0"))
    bucket.rename(tmp_path / "aside")
    bucket.write_text("no folder")
    checkpoint.save_running("inner-rl", lambda folder: (folder / "n").write_text("1"))
    assert len(said) == 1
    assert said[0].endswith("what is on this disk stands")
    bucket.unlink()
    (tmp_path / "aside").rename(bucket)
    assert [item.name for item in items(tmp_path / "run")] == ["inner-rl.state-1"]
    assert store.items("run") == ["inner-rl.state-0"]
    checkpoint.save_running("inner-rl", lambda folder: (folder / "n").write_text("2"))
    assert "inner-rl.state-2" in store.items("run")
