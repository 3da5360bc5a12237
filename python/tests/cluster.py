"""A job of an engine in processes of its own: what it costs, and one worker of it killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def descendants(root: int) -> set[int]:
    """The processes that a process started, and those that they started."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except (OSError, ValueError, IndexError):
                continue
    found, waiting = set(), [root]
    while waiting:
        parent = waiting.pop()
        more = [pid for pid, above in parents.items() if above == parent and pid not in found]
        found.update(more)
        waiting += more
    return found


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


class Job:
    """Runs code in `folder` until it ends; `costs` then has its CPU seconds, memory (PSS) and time."""

    def __init__(self, code: str, folder: Path, environment: dict[str, str]) -> None:
        (folder / "job.py").write_text(code)
        self.log = (folder / "job.log").open("w+")
        self.started = time.monotonic()
        command = [sys.executable, "job.py"]
        environment = {**os.environ, **environment}
        self.process = subprocess.Popen(command, cwd=folder, stdout=self.log, stderr=self.log, env=environment)
        self.cpu: dict[int, int] = {}
        self.memory = 0

    def running(self) -> bool:
        return self.process.poll() is None

    def workers(self, words: str) -> list[int]:
        """Processes of the job whose command lines have these words."""
        return sorted(pid for pid in descendants(self.process.pid) if words in command_line(pid))

    def kill(self, words: str) -> int | None:
        """Kills a worker with SIGKILL: the youngest, since what starts workers is older."""
        for pid in reversed(self.workers(words)):
            try:
                os.kill(pid, signal.SIGKILL)
                return pid
            except ProcessLookupError:
                continue
        return None

    def sample(self) -> None:
        memory = 0
        for pid in {self.process.pid, *descendants(self.process.pid)}:
            try:
                fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
                self.cpu[pid] = int(fields[11]) + int(fields[12])
                rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
                memory += next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
            except (OSError, ValueError, IndexError, StopIteration):
                continue
        self.memory = max(self.memory, memory)

    def costs(self) -> str:
        seconds = time.monotonic() - self.started
        cpu = sum(self.cpu.values()) / TICKS
        return f"{seconds:.1f} s, {cpu:.1f} CPU seconds, {self.memory / 1000:.0f} MB"

    def end(self) -> str:
        """Ends what is left of it, and gives what it said."""
        for pid in {self.process.pid, *descendants(self.process.pid)}:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait()
        self.log.seek(0)
        text = self.log.read()
        self.log.close()
        return text
