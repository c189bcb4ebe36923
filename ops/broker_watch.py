"""Runs a server and stops it when the parent goes away, even if that is killed: ``broker_watch.py GRACE COMMAND…``.

The parent holds the other end of standard input; when it dies, by whatever means, that end closes. Standard library
only: this starts in some 15 ms, and before anything of Strata is imported.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys


def main() -> int:
    """Run the command until it ends or standard input closes; its exit status."""
    grace, command = float(sys.argv[1]), sys.argv[2:]
    child = subprocess.Popen(  # noqa: S603
        command,
        stdin=subprocess.DEVNULL,
        close_fds=True,
        preexec_fn=_die_with_parent if sys.platform == "linux" else None,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os.close(0))
    while child.poll() is None:
        try:
            if select.select([0], [], [], 0.2)[0] and not os.read(0, 1):
                break
        except OSError:
            break
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(grace)
        except subprocess.TimeoutExpired:
            child.kill()  # it keeps nothing on disk
            child.wait()
        return 0
    return child.returncode


def _die_with_parent() -> None:
    """Should this process itself be killed (Linux)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
