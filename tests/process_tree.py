"""Killing a process that a test started, with its descendants."""

import contextlib
import os
import signal
import subprocess


def kill_tree(leader: int) -> None:
    """Kill a process and all its descendants, in any process group."""
    found, fresh = [leader], [leader]
    while fresh:
        listed = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", ",".join(map(str, fresh))], capture_output=True, text=True
        )
        fresh = [int(pid) for pid in listed.stdout.split() if int(pid) not in found]
        found += fresh
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
