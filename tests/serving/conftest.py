"""A small backend that answers by arithmetic, and the service around it with a real log."""

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from risk.access.errors import NotAnswered
from risk.access.tokens import Role, Tokens
from serving.decisions import DecisionLog
from serving.questions import CASH, Opinion, Question
from serving.settings import WebSettings

SYMBOLS = ("AAPL", "BRK.B", "MSFT", "XOM")
CHAMPION, CHALLENGER = "a" * 64, "b" * 64
TOKENS = {role: f"{role.name}-{'x' * 16}" for role in Role}


def opinion_of(question: Question, sha256: str = CHAMPION) -> Opinion:
    """Return equal weights, a little less invested for each digit of the model's hash."""
    names = question.universe or SYMBOLS
    invested = 0.9 if sha256 == CHAMPION else 0.5
    weights = {symbol: invested / len(names) for symbol in names}
    weights[CASH] = 1.0 - sum(weights.values())
    agent = {"weights": weights, "share": 1.0, "confidence": None, "breaches_before_projection": []}
    return Opinion(
        model={"id": sha256[:12], "sha256": sha256},
        data_sha256="d" * 64,
        as_of=question.as_of or "2022-12-28",
        expires_at="2100-01-01T15:30:00+00:00",
        weights=weights,
        agents={"balanced": agent},
        market={"regime": "calm"},
        missing=(),
        rebalance=True,
        explanation={"agents": {"balanced": {"stage": "rule"}}},
        data_age=0,
        seconds={"opinion": 0.001},
    )


@dataclass
class PlainBackend:
    """Says what it is told to say, and keeps what it was asked."""

    sha256: str = CHAMPION
    shadow_sha256: str | None = None
    problem: Exception | None = None
    delay_s: float = 0.0
    why_unready: str | None = None
    change: Callable[[Opinion], Opinion] = lambda opinion: opinion
    asked: list[Question] = field(default_factory=list)
    refreshed: int = 0

    async def opinion(self, question: Question) -> Opinion:
        self.asked.append(question)
        await asyncio.sleep(self.delay_s)
        if self.problem is not None:
            raise self.problem
        return self.change(opinion_of(question, self.sha256))

    async def shadow(self, question: Question) -> Opinion | None:
        if self.shadow_sha256 is None:
            return None
        if self.shadow_sha256 == "broken":
            raise RuntimeError("the challenger fell over")
        return opinion_of(question, self.shadow_sha256)

    async def models(self) -> list[dict[str, Any]]:
        if isinstance(self.problem, NotAnswered):
            raise self.problem
        model = {"role": "champion", "sha256": self.sha256, "wanted": self.sha256}
        return [{**model, "problem": self.why_unready, "share": 1.0}]

    async def unready(self) -> str | None:
        return self.why_unready

    async def refresh(self) -> None:
        self.refreshed += 1


SETTINGS = WebSettings(
    max_body_bytes=1 << 20,
    max_depth=8,
    max_in_flight=256,
    requests_per_minute=1_000_000,
    failures_per_minute=1_000_000,
    body_timeout_s=5.0,
    request_timeout_s=5.0,
    max_shadows=16,
)


@dataclass
class Reply:
    """What an ASGI application sent."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        code: str = self.json()["error"]["code"]
        return code


@dataclass
class Shop:
    """The service over one backend and one log."""

    backend: PlainBackend
    log: DecisionLog
    app: Any

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        role: Role | None = Role.admin,
        headers: dict[str, str] | None = None,
        receive: Any = None,
    ) -> Reply:
        """Send one request by ASGI alone; `body` is bytes, or a record that is sent as JSON."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {"content-type": "application/json", "content-length": str(len(content))}
        if role is not None:
            sent["authorization"] = f"Bearer {TOKENS[role]}"
        sent |= headers or {}
        waiting = [{"type": "http.request", "body": content, "more_body": False}]

        async def at_once() -> dict[str, Any]:
            return waiting.pop() if waiting else {"type": "http.disconnect"}

        messages: list[dict[str, Any]] = []

        async def send(message: Any) -> None:
            messages.append(message)

        scope = {
            "type": "http",
            "http_version": "1.1",
            "scheme": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": b"",
            "headers": [(key.encode(), value.encode()) for key, value in sent.items() if value],
            "server": ("127.0.0.1", 80),
            "client": ("127.0.0.1", 1),
        }
        await self.app(scope, receive or at_once, send)
        if not messages:
            return Reply(0, {}, b"")
        shown = {key.decode(): value.decode() for key, value in messages[0]["headers"]}
        return Reply(
            messages[0]["status"], shown, b"".join(m.get("body", b"") for m in messages[1:])
        )

    def ask_once(self, *arguments: Any, **options: Any) -> Reply:
        """Send one request and wait for its answer."""
        return asyncio.run(self.ask(*arguments, **options))


@pytest.fixture
def question() -> dict[str, Any]:
    """Return a question of an account that holds something."""
    account = {"id": "fund-1", "cash": "1000.50", "positions": {"AAPL": 3}}
    return {"as_of": "2022-12-28", "account": account}


@pytest.fixture
def log(tmp_path: Path) -> Iterator[DecisionLog]:
    """Open a new log of decisions."""
    opened = DecisionLog(tmp_path / "decisions.sqlite")
    yield opened
    opened.close()


@pytest.fixture
def open_shop(log: DecisionLog) -> Callable[..., Shop]:
    """Open the service with other settings than the usual ones."""

    def opened(backend: Any = None, **settings: Any) -> Shop:
        from serving.web import make_app  # FastAPI is slow to import

        backend = backend or PlainBackend()
        tokens = Tokens({token: role for role, token in TOKENS.items()})
        return Shop(backend, log, make_app(backend, log, replace(SETTINGS, **settings), tokens))

    return opened


@pytest.fixture
def shop(open_shop: Callable[..., Shop]) -> Shop:
    """Open the service with its usual settings."""
    return open_shop()


@pytest.fixture
def opine() -> Callable[..., Opinion]:
    """Make an opinion: of a question, by a model."""
    return opinion_of


MARKET = (
    "market=synthetic",
    "market.assets=6",
    "market.sessions=700",
    "market.first=2015-01-02",
)


@dataclass(frozen=True)
class World:
    """A small synthetic market, its configuration, and artefacts of agents that learned nothing."""

    folder: Path
    config: Any  # Configuration
    serving: Any  # ServingSettings
    data: Any  # Dataset
    overrides: tuple[str, ...] = MARKET  # of a command over the same market

    @property
    def last(self) -> str:
        """Return the last session."""
        return str(self.data.bars.dates[-1])

    @property
    def first(self) -> str:
        """Return the first session after training."""
        return str(self.data.bars.dates[self.data.test.start])

    @property
    def now(self) -> datetime:
        """Return a moment after the last session and before the next one has closed."""
        return datetime.fromisoformat(f"{self.last}T23:30:00+00:00")

    def artefact(self, seed: int) -> Path:
        """Return an artefact of random networks, the same for the same seed."""
        from benchmarks import untrained
        from training.train import make_society

        folder = self.folder / f"artefact-{seed}"
        if not folder.exists():
            config = replace(self.config, seed=seed)
            untrained.save(folder, make_society(self.data, config), self.data, config)
        return folder

    def plan(self, policy: Any, folder: Path, **placement: Any) -> Any:
        """Return a blueprint whose decisions lie in a folder."""
        from serving.blueprint import Blueprint

        own = replace(
            self.serving,
            placement=replace(self.serving.placement, **placement),
            decisions=str(folder / "decisions.sqlite"),
            tokens=str(folder / "tokens"),
        )
        c = self.config
        return Blueprint(c.market, c.quality, c.env, policy, own)

    def backend(self, plan: Any, now: datetime | None = None) -> Any:
        """Return the backend of this process, at a moment."""
        from serving.local import LocalBackend

        market = plan.market
        return LocalBackend(
            plan.sources(),
            plan.serving.desk,
            plan.env,
            market.exchange,
            market.cash_rate,
            lambda: now or self.now,
        )


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Build the market once; nothing in it is changed."""
    import hydra

    from cli.config import TrainConfig, register
    from market.build import build
    from market.compose import CONF, typed

    register()
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        composed = hydra.compose(
            "train",
            [*MARKET, "ensemble=hedge", "seed=1"],
        )
        settings = hydra.compose(overrides=["+serving=default"])
    config = typed(composed, TrainConfig).configuration()
    folder = tmp_path_factory.mktemp("world")
    serving = hydra.utils.instantiate(settings, _convert_="object")["serving"]
    data = build(config.market, config.quality, config.features)
    return World(folder, config, serving, data)
