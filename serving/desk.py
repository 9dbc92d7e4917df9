"""One artefact over one market: what its agents ask for at the close of any session."""

import time
from collections import OrderedDict
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
import torch

from agents.action_map import ActionMap
from agents.artefact import Artefact
from agents.confidence import confidence
from agents.market_tensors import MarketTensors
from agents.observation import observe_books
from envs.batch import EnvSettings
from envs.costs import require_traded_value
from market.bars import FloatArray
from market.calendar import execution_window_end, last_completed, next_session, sessions
from market.dataset import Dataset
from market.errors import InputError
from market.freshness import data_age, require_complete
from risk.access.errors import NotAnswered, Reason
from risk.breaches import breaches
from serving.explain import explain
from serving.questions import CASH, Opinion
from serving.settings import DeskSettings
from serving.track import replay

ID_DIGITS = 12  # of the sha256: what a person can compare
SESSIONS_KEPT = 512  # opinions in memory: a day needs one, a study of a year asks for 252


class Desk:
    """Answers by session; each session's answer is made once.

    Args:
        trained: the artefact.
        data: the market, featurised by the artefact's own record.
        settings: what is fresh enough, and until when an answer may be executed.
        env: costs and capital of the model books.
        exchange: whose calendar holds.
        cash_rate: annual, earned on positive cash.

    Raises:
        InputError: if the costs need traded values that the market has not.
    """

    def __init__(
        self,
        trained: Artefact,
        data: Dataset,
        settings: DeskSettings,
        env: EnvSettings,
        exchange: str,
        cash_rate: float,
    ) -> None:
        require_traded_value(env.costs, data)
        self._trained, self._data = trained, data
        self._settings, self._exchange = settings, exchange
        self._tensors = MarketTensors.build(data)
        mandates = trained.manifest.mandates
        self._first = data.test.start
        self._track = replay(self._tensors, mandates, trained.networks, env, self._first, cash_rate)
        self._netting = self._track.netted(trained.manifest.ensemble, data.regime)
        self._action_map = ActionMap(mandates, self._tensors)
        self._opinions: OrderedDict[int, Opinion] = OrderedDict()

    @property
    def symbols(self) -> tuple[str, ...]:
        """Return the N names."""
        return self._data.bars.symbols

    @property
    def last_row(self) -> int:
        """Return the row of the last session known."""
        return len(self._data.bars.dates) - 1

    @property
    def last_session(self) -> str:
        """Return the last session known, ISO date."""
        return str(self._data.bars.dates[-1])

    def row(self, as_of: str | None, now: datetime) -> int:
        """Return the row of the session that is asked for.

        Args:
            as_of: ISO date; None is the last completed session.
            now: with its time zone.

        Raises:
            NotAnswered: if there is no such session, or its data are not there.
        """
        dates = self._data.bars.dates
        last, completed = dates[-1], last_completed(self._exchange, now)
        if as_of is None:
            age = data_age(last, self._exchange, now)
            if age > self._settings.max_age:
                raise NotAnswered(
                    Reason.stale_data,
                    f"the data end with {last}, {age} sessions before the last completed one, "
                    f"{completed}; name a session with as_of, or bring the data up to date",
                    self._settings.retry_data_s,
                )
            return len(dates) - 1 if age >= 0 else int(np.searchsorted(dates, completed))
        day = np.datetime64(as_of, "D")
        if day > completed:
            raise NotAnswered(
                Reason.outside_the_data, f"as_of {day} has not closed; {completed} is the last"
            )
        if day < dates[self._first]:
            raise NotAnswered(
                Reason.outside_the_data,
                f"as_of {day} lies before {dates[self._first]}, the first session after training",
            )
        if not len(sessions(self._exchange, day, day)):
            after = next_session(self._exchange, day)
            raise NotAnswered(
                Reason.not_a_session,
                f"as_of {day} is no session of {self._exchange}; the next one is {after}",
            )
        row = int(np.searchsorted(dates, day))
        if row == len(dates) or dates[row] != day:
            raise NotAnswered(
                Reason.stale_data,
                f"there are no data of {day}; they end with {last}",
                self._settings.retry_data_s,
            )
        return row

    def known(self, row: int) -> bool:
        """Return whether the session's opinion was made already."""
        return row in self._opinions

    def opinion(self, row: int, now: datetime) -> Opinion:
        """Return what the agents ask for at the close of a session.

        Raises:
            NotAnswered: if the session's data are not whole.
        """
        started = time.perf_counter()
        made = self._opinions.get(row)
        if made is None:
            with torch.inference_mode():
                made = self._make(row)
            self._opinions[row] = made
            if len(self._opinions) > SESSIONS_KEPT:
                self._opinions.popitem(last=False)
        age = data_age(self._data.bars.dates[row], self._exchange, now)
        seconds = {"opinion": round(time.perf_counter() - started, 6)}
        return made.at(age, seconds)

    def _make(self, row: int) -> Opinion:
        bars, manifest = self._data.bars, self._trained.manifest
        try:
            require_complete(bars, row)
        except InputError as error:
            raise NotAnswered(
                Reason.missing_data, str(error), self._settings.retry_data_s
            ) from error
        i = row - self._first
        weights = self._netting.weights[i]
        day = bars.dates[row]
        expires = execution_window_end(self._exchange, day, self._settings.execution_minutes)
        listed = bars.listed[row]
        return Opinion(
            model={"id": self._trained.sha256[:ID_DIGITS], "sha256": self._trained.sha256},
            data_sha256=bars.sha256,
            as_of=str(day),
            expires_at=expires.isoformat(),
            weights=_with_cash(weights, self.symbols),
            agents=self._agents(row),
            market={
                "regime": self._data.regime_names[self._data.regime[row]],
                "volatility": float(self._data.market_volatility[row]),
                "names": int(self._data.investable[row].sum()),
                "mixer": type(manifest.ensemble).__name__,
            },
            missing=tuple(s for s, here in zip(bars.symbols, listed, strict=True) if not here),
            rebalance=bool(self._netting.rebalance[i]),
            explanation=explain(
                self._trained, self._action_map, self._track, self._netting, row, self.symbols
            ),
            data_age=0,
            seconds={},
        )

    def _agents(self, row: int) -> dict[str, dict[str, Any]]:
        """Return every agent's part of the answer."""
        i, t = row - self._first, torch.tensor([row])
        day = self._action_map.day(t)
        held, tilt, action = self._state(i)
        wanted = self._action_map.wanted(day, action, tilt)
        broken = breaches(wanted, held, self._action_map.bounds(day))[0]
        sure = self._confidences(row)
        manifest = self._trained.manifest
        return {
            mandate.name: {
                "weights": _with_cash(self._track.target[i, a], self.symbols),
                "share": float(self._netting.shares[i, a]),
                "confidence": sure[a],
                "breaches_before_projection": list(broken[a]),
            }
            for a, mandate in enumerate(manifest.mandates)
        }

    def _state(self, i: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return held (1, A, N), tilt (1, A, N) and action (1, A, N + 1) of a session's books."""
        track = self._track
        held, tilt, action = (
            torch.from_numpy(values[i : i + 1]) for values in (track.held, track.tilt, track.action)
        )
        return held, tilt, action

    def _confidences(self, row: int) -> list[float | None]:
        """Return how far each agent's network agrees with itself; None for an agent by rule."""
        i, t = row - self._first, torch.tensor([row])
        held, tilt, _ = self._state(i)
        drawdown = torch.from_numpy(self._track.drawdown[i : i + 1])
        assets, _ = observe_books(self._action_map, self._action_map.day(t), held, tilt, drawdown)
        market = self._tensors
        found: list[float | None] = []
        for a, mandate in enumerate(self._trained.manifest.mandates):
            network = self._trained.networks.get(mandate.policy)
            if network is None:
                found.append(None)
                continue
            encoding = network.encode(
                market.asset_features[t], market.market_features[t], market.investable[t]
            )
            part = network.day_part(encoding, market.investable[t])
            agreed = confidence(part, network.book_weights, assets[:, a], market.investable[t])
            found.append(float(agreed[0]))
        return found


def _with_cash(weights: FloatArray, symbols: Sequence[str]) -> dict[str, float]:
    """Name the weights; what they leave is cash, which rounding must not take below 0."""
    named = dict(zip(symbols, weights.tolist(), strict=True))
    return {**named, CASH: max(1.0 - float(weights.sum()), 0.0)}
