"""`tercet paper-exchange`: a broker on this machine, until Ctrl-C or SIGTERM."""

from pathlib import Path

from brokers.exchange.exchange import Exchange
from brokers.exchange.serve import address, application, listening_socket, server
from cli.config import PaperExchangeConfig, verb
from market.load import load_bars


@verb(PaperExchangeConfig)
def main(config: PaperExchangeConfig) -> None:
    """Serve one account at the prices of a market."""
    bars = load_bars(config.market, config.quality)
    settings = config.exchange
    exchange = Exchange(Path(config.database), bars, config.market.exchange, settings)
    try:
        with listening_socket(config.host, config.port) as listener:
            print(
                f"paper exchange on {address(listener)}, clock {settings.clock.value}", flush=True
            )
            app = application(exchange, settings.key, settings.secret)
            server(app).run(sockets=[listener])
    finally:
        exchange.close()
