"""The dispatcher of the console command: finds the verb, runs it, turns bad input into one line."""

import logging
import os
import sys
from importlib import import_module
from importlib.metadata import version

from cli.words import HELP, as_typed, listed, options_last, with_subverb
from market.errors import Refused
from market.suggest import nearest

VERBS = {
    "train": "train the agents, export the artefact and judge it out of sample",
    "tune": "search settings on inner folds, and train the best of them",
    "backtest": "run an artefact, a baseline or fixed weights over a window",
    "promote": "choose the artefact that serves, try another one beside it, or roll back",
    "serve": "answer what accounts should hold, over HTTP on Ray Serve",
    "allocate": "print the allocation of one session, without a server",
    "export": "write each policy as ONNX, checked against torch",
    "bench": "measure what each part costs on this machine",
    "rebalance": "bring an account to its allocation, through its gateway",
    "paper-exchange": "play a broker on this machine, by Alpaca's interface",
    "gateway": "run an account's only way to its broker, arm it, or ask it",
    "costs": "fit a cost model to the fills of an account",
    "kill": "stop all trading of an account, whatever else works",
    "cluster-file": "print the file that `ray up` starts a cluster from",
    "doctor": "check the installation of this machine",
}
INPUT_ERROR = 2
REFUSED = 3
INTERRUPTED = 130
BROKEN_PIPE = 141  # as a shell counts a program that SIGPIPE has ended

# Hydra's own files and log handlers are not wanted: a run has its folder, logging is set up here.
HYDRA_DEFAULTS = (
    "hydra.run.dir=.",
    "hydra.sweep.dir=runs",
    "hydra.sweep.subdir=.",
    "hydra.output_subdir=null",
    "hydra/job_logging=none",
    "hydra/hydra_logging=none",
)


def main() -> int:
    """Run one verb; `| head` may stop reading at any time.

    Returns:
        As `dispatch`, or 141 where nobody reads the output any more.
    """
    try:
        code = dispatch()
        sys.stdout.flush()
    except BrokenPipeError:
        # What is still buffered must not be tried again when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    return code


def dispatch() -> int:
    """Run one verb.

    Returns:
        The exit code: 0, 1 for a defect of ours (with its traceback), 2 for bad input (with one
        line), 3 for what was refused (with one line), 130 after an interruption.
    """
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in {*HELP, "help"}:
        print(usage())
        return 0 if arguments else INPUT_ERROR
    if arguments[0] in ("--version", "-V"):
        print(f"tercet {version('tercet')}")
        return 0
    verb, *rest = arguments
    if verb not in VERBS:
        return _refuse(f"no verb is called {verb!r}{nearest(verb, VERBS)}; see tercet --help")
    return _run(verb, rest)


def usage() -> str:
    """Return the text of `tercet --help`."""
    return (
        "usage: tercet <verb> [<subverb>] [group=choice] [key=value] ...\n\n"
        f"{listed(VERBS)}\n\n"
        "Every verb is a Hydra application over conf/:\n"
        "  tercet <verb> --help          its groups, choices and values\n"
        "  tercet <verb> --cfg job       the composed configuration\n"
        "  tercet <verb> --multirun a=1,2\n"
        "  tercet --version"
    )


def _run(verb: str, rest: list[str]) -> int:
    """Run a verb with Hydra reading the rest of the command line."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    # One thread a process: on small tensors a second one spins more than it computes, and work is
    # spread over processes.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # let errors reach us instead of Hydra's own printing
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from cli.errors import explain
    from cli.verbs import Failed

    root = verb.replace("-", "_")  # of the configuration and of the module
    module = import_module(f"cli.{root}")
    try:
        if subverbs := getattr(module, "SUBVERBS", None):
            rest = with_subverb(verb, rest, subverbs)
        rest = as_typed(rest, getattr(module, "TEXTS", ()))
        sys.argv = [f"tercet {verb}", *options_last([*rest, *HYDRA_DEFAULTS])]
        module.main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except Failed as failed:
        if isinstance(failed.error, BrokenPipeError):
            raise failed.error from None
        return _report(failed.error, explain(failed.error, root, rest))
    except AssertionError:  # OmegaConf's, where an override cuts into a list
        return _refuse(f"cannot apply {' '.join(rest)!r} to the configuration; see --cfg job")
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        return _report(error, explain(error, root, rest))
    return 0


def _report(error: Exception, line: str | None) -> int:
    """Print the user's mistake in one line, or our own with its traceback."""
    if line is None:
        raise error
    return _refuse(line, REFUSED if isinstance(error, Refused) else INPUT_ERROR)


def _refuse(line: str, code: int = INPUT_ERROR) -> int:
    print(f"tercet: {line}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
