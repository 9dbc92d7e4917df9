"""What a trial leaves after each rung, so that it goes on from there in whatever process.

A state is a flat folder. It lies in the folder of the search, where the machine of the trial sees
that, and in the store of `cluster.checkpoints`, where there is one: on other machines only that
outlives the trial.
"""

import logging
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from shutil import copytree, rmtree

from training.store import Store, StoreError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TrialStates:
    """The states of the trials of one search.

    Args:
        folder: on the machine of the search.
        store: address of copies; None: there are none.
        search: name of the search.
    """

    folder: Path
    store: str | None
    search: str

    def keep(self, trial: str, state: Path, rung: int) -> None:
        """Copy a state, whole or not at all, and drop the one before."""
        if not self.folder.exists() and self.store is None:
            return
        own, before = self._own(trial), self._local(trial)
        unfinished = own / f".{os.getpid()}"
        rmtree(unfinished, ignore_errors=True)
        copytree(state, unfinished)
        whole = own / str(rung)
        if before == whole:  # a trial that was begun again where its state was lost on the way
            rmtree(whole)
        unfinished.rename(whole)
        self._copy(trial, whole, before)
        if before not in (None, whole):
            rmtree(before)

    def last(self, trial: str) -> Path | None:
        """Return the last state of a trial, if any: from the store where this disk has none."""
        local = self._local(trial)
        if local is not None or self.store is None:
            return local
        try:
            store, name = Store(self.store), self._name(trial)
            rungs = sorted((item for item in store.items(name) if item.isdecimal()), key=int)
            own = self._own(trial)
            own.mkdir(parents=True, exist_ok=True)
            if not rungs or not store.fetch(name, rungs[-1], own):
                return None
            return own / rungs[-1]
        except StoreError as error:
            logger.warning("%s; the trial begins anew", error)
            return None

    def discard(self) -> None:
        """Remove all states: the search is over."""
        rmtree(self.folder, ignore_errors=True)
        if self.store is None:
            return
        try:
            Store(self.store).discard(self.search)
        except StoreError as error:
            logger.warning("%s; what is left of %s there is of no use", error, self.search)

    def _local(self, trial: str) -> Path | None:
        states = [path for path in self._own(trial).glob("*") if path.name.isdecimal()]
        return max(states, key=lambda path: int(path.name), default=None)

    def _own(self, trial: str) -> Path:
        """Return the folder of a trial; another machine keeps it among its temporary files."""
        elsewhere = Path(tempfile.gettempdir()) / self.search
        return (self.folder if self.folder.exists() else elsewhere) / trial

    def _name(self, trial: str) -> str:
        return f"{self.search}/{trial}"

    def _copy(self, trial: str, whole: Path, before: Path | None) -> None:
        if self.store is None:
            return
        try:
            store = Store(self.store)
            store.put(self._name(trial), whole)
            if before not in (None, whole):
                store.drop(self._name(trial), before.name)
        except StoreError as error:
            logger.warning("%s; what is on this disk stands", error)
