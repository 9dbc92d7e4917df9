"""Hosts on one machine: network namespaces with their own address, sshd, home and Ray folder.

A host is told apart by everything that Ray's launcher needs: it is reached by ssh alone, it sees
no processes but its own (`ray stop` ends all that it sees), `~` is a folder of its own, and so is
Ray's temporary folder, where the on-premise provider keeps its state. The file system beside is
shared, so that the virtual environment need not be copied. Needs root.
"""

import fcntl
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

NETWORK = "10.213.7"
BRIDGE, PREFIX = "tercet-br", "tercet-host"
LOCK = Path("/run/lock/tercet-hosts")  # hosts of one test at a time
STARTS_WITHIN_S = 20.0
SERVICES = ("unshare", "/usr/sbin/sshd", "sshd:")
NEEDS = ("ip", "unshare", "ssh", "ssh-keygen", "rsync", "/usr/sbin/sshd")

SSHD = """
ListenAddress {address}
HostKey {folder}/host_key
PidFile none
AuthorizedKeysFile {folder}/authorized_keys
PasswordAuthentication no
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
MaxStartups 100
"""


def missing() -> str | None:
    """Return why hosts cannot be made here; None if they can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    absent = [name for name in NEEDS if shutil.which(name) is None]
    if absent:
        return f"not installed: {', '.join(absent)}"
    words = ["unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc", "true"]
    tried = subprocess.run(words, capture_output=True, check=False)
    return None if tried.returncode == 0 else "namespaces are not granted here"


@dataclass(frozen=True, slots=True)
class Host:
    """One host: its namespace, its address and its home."""

    name: str
    address: str
    home: Path

    def cable(self, plugged: bool) -> None:
        """Put the host's cable in, or take it out."""
        _ip("link", "set", f"{self.name}-br", "up" if plugged else "down")

    def runs(self, words: str) -> bool:
        """Return whether a process with these words in its command runs on the host."""
        return any(words in _command(process) for process in self.processes())

    def processes(self) -> list[int]:
        """Return the ids of everything that runs on the host."""
        found = subprocess.run(
            ["ip", "netns", "pids", self.name], capture_output=True, text=True, check=True
        )
        return [int(line) for line in found.stdout.split()]

    def kill(self) -> None:
        """End all on the host but what ssh needs, as a machine is lost: without notice."""
        for process in self.processes():
            if not _command(process).startswith(SERVICES):
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)


@contextmanager
def hosts(count: int, folder: Path, furnish: Callable[[Path], None]) -> Iterator[list[Host]]:
    """Start hosts on one bridge, which this machine is on too, and remove them at the end.

    Args:
        count: of hosts.
        folder: a new one, for their homes, `home1` and so on, and `key`, which all of them take.
        furnish: puts files into a home before the host starts.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        lock = stack.enter_context(LOCK.open("w"))
        fcntl.flock(lock, fcntl.LOCK_EX)
        _clear()  # what a test that was killed has left
        # An overlay's upper folder may not lie on an overlay, as a container's files do.
        _run("mount", "-t", "tmpfs", "tmpfs", str(folder))
        stack.callback(_run, "umount", "--lazy", str(folder))
        for name in ("key", "host_key"):
            _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name))
        shutil.copy(folder / "key.pub", folder / "authorized_keys")
        _ip("link", "add", BRIDGE, "type", "bridge")
        stack.callback(_ip, "link", "del", BRIDGE)
        _ip("addr", "add", f"{NETWORK}.1/24", "dev", BRIDGE)
        _ip("link", "set", BRIDGE, "up")
        yield [
            stack.enter_context(_host(number, folder, furnish)) for number in range(1, count + 1)
        ]


@contextmanager
def _host(number: int, folder: Path, furnish: Callable[[Path], None]) -> Iterator[Host]:
    host = Host(f"{PREFIX}{number}", f"{NETWORK}.{10 + number}", folder / f"home{number}")
    host.home.mkdir()
    furnish(host.home)
    with ExitStack() as stack:
        _ip("netns", "add", host.name)
        stack.callback(_ip, "netns", "del", host.name)
        _ip("link", "add", f"{host.name}-br", "type", "veth", "peer", "eth0", "netns", host.name)
        stack.callback(_ip, "link", "del", f"{host.name}-br")  # with its other end
        _ip("link", "set", f"{host.name}-br", "master", BRIDGE, "up")
        for words in (
            ("addr", "add", f"{host.address}/24", "dev", "eth0"),
            ("link", "set", "eth0", "up"),
            ("link", "set", "lo", "up"),
            ("route", "add", "default", "via", f"{NETWORK}.1"),  # by it Ray finds its address
        ):
            _ip("-n", host.name, *words)
        stack.callback(_end_all, host)
        _start_sshd(host, folder)
        yield host


def _start_sshd(host: Host, folder: Path) -> None:
    config = folder / f"sshd{host.name}"
    config.write_text(SSHD.format(address=host.address, folder=folder))
    work = folder / f"work{host.name}"
    work.mkdir()
    Path("/run/sshd").mkdir(exist_ok=True)
    Path("/tmp/ray").mkdir(exist_ok=True)
    # What the host writes to its home lies over this machine's, which it sees and cannot change.
    home, over = Path.home(), f"upperdir={host.home},workdir={work}"
    script = (
        f"mount -t overlay overlay -o lowerdir={home},{over} {home} && "
        f"mount -t tmpfs tmpfs /tmp/ray && exec /usr/sbin/sshd -D -e -f {config}"
    )
    with (folder / f"log{host.name}").open("wb") as log:
        subprocess.Popen(
            ["ip", "netns", "exec", host.name,
             "unshare", "--mount", "--pid", "--fork", "--mount-proc", "sh", "-c", script],
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    ends = time.monotonic() + STARTS_WITHIN_S
    while subprocess.run(ssh(host, folder, "true"), capture_output=True, check=False).returncode:
        if time.monotonic() > ends:
            raise RuntimeError((folder / f"log{host.name}").read_text())
        time.sleep(0.1)


def ssh(host: Host, folder: Path, command: str) -> list[str]:
    """Return the words of a command that is run on a host over ssh."""
    return [
        "ssh", "-i", str(folder / "key"), "-o", "StrictHostKeyChecking=no",
        "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
        "-o", "IdentitiesOnly=yes", f"root@{host.address}", command,
    ]  # fmt: skip


def _clear() -> None:
    left = subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout
    for name in (line.split()[0] for line in left.splitlines() if line.startswith(PREFIX)):
        _end_all(Host(name, "", Path()))
        _ip("netns", "del", name)
    for link in Path("/sys/class/net").glob(f"{PREFIX}*"):
        subprocess.run(["ip", "link", "del", link.name], capture_output=True, check=False)
    if Path("/sys/class/net", BRIDGE).exists():
        _ip("link", "del", BRIDGE)


def _end_all(host: Host) -> None:
    for process in host.processes():
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def _command(process: int) -> str:
    try:
        return Path(f"/proc/{process}/cmdline").read_text().replace("\0", " ").strip()
    except OSError:
        return ""


def _ip(*words: str) -> None:
    _run("ip", *words)


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, text=True)
