"""RunDirectory: where a run lives on disk, who may write there, and how it is found again.

    RUN/config.toml  metrics.jsonl  samples/  checkpoints/step-00000200/  report.html

Files are written through `minigen.files` and `minigen.io`, so that a reader, or a crash, never
meets half of one.
"""

import contextlib
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from minigen import files, io
from minigen.train.config import RunConfig, make_config
from minigen.train.errors import RunError, UsageError

KEEP = 2  # checkpoints: the newest, and one before it should the disk damage the newest


class RunDirectory:
    """The files of one run under `path`; nothing is created or read until it is asked for."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.config_file = self.path / "config.toml"
        self.metrics_file = self.path / "metrics.jsonl"
        self.samples = self.path / "samples"
        self.checkpoints = self.path / "checkpoints"
        self.report = self.path / "report.html"
        self.evaluation = self.path / "evaluation.json"
        self._lock: int | None = None

    def __str__(self) -> str:
        return str(self.path)

    # making and finding ----------------------------------------------------------------------

    @classmethod
    def create(cls, out: str | Path | None, model: str, source: str) -> "RunDirectory":
        """A new run at `out`, or at runs/MODEL-DATA-NUMBER with the first free number.

        The lock is taken. Raises UsageError where something already is, RunError where the folder
        cannot be made.
        """
        if out is None:
            return cls._numbered(Path("runs"), f"{_slug(model)}-{_slug(source)}")
        run = cls(out)
        run.check_free()
        with _writing(run.path):
            run.path.mkdir(parents=True, exist_ok=True)
        run.lock()
        try:
            run.check_free()  # another process may have been first
        except UsageError:
            run.unlock()
            raise
        return run

    def check_free(self) -> None:
        """UsageError unless the folder is new or empty, so that nothing is overwritten."""
        if self.path.exists() and not self.path.is_dir():
            raise UsageError(f"--out {self}: is a file; expected a new or empty folder")
        with _writing(self.path):
            names = [each.name for each in self.path.iterdir()] if self.path.exists() else []
        # Hidden files are the lock and what a crash left of an atomic write.
        if any(not name.startswith(".") for name in names):
            instead = "choose a new folder"
            if self.is_run():
                instead += f", or go on with the run in it: {self.resume_command()}"
            raise UsageError(f"--out {self}: exists and is not empty; {instead}")

    @classmethod
    def _numbered(cls, folder: Path, stem: str) -> "RunDirectory":
        with _writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(1, 1_000_000):
                run = cls(folder / f"{stem}-{number}")
                try:
                    run.path.mkdir()
                except FileExistsError:
                    continue
                run.lock()
                return run
        raise UsageError(f"{folder}: a million runs of {stem}; name one with --out")

    @classmethod
    def open(cls, path: str | Path) -> "RunDirectory":
        """A run that exists; UsageError when the folder is missing or has no config.toml."""
        run = cls(path)
        if run.is_run():
            return run
        if not run.path.exists():
            raise UsageError(f"{path}: no such run{_known_runs(run.path)}")
        raise UsageError(f"{path}: not a run: there is no config.toml in it")

    def is_run(self) -> bool:
        return self.config_file.is_file()

    # config, checkpoints, metrics ------------------------------------------------------------

    def read_config(self) -> RunConfig:
        return make_config(file=self.config_file)

    def write_config(self, config: RunConfig) -> None:
        with _writing(self.path):
            files.write_text_atomic(self.config_file, config.to_toml())

    def save_checkpoint(self, step: int, state: dict[str, Any]) -> Path:
        """Write the state after `step` steps and drop all but the newest checkpoints."""
        folder = self.checkpoints / f"step-{step:08d}"
        with _writing(self.path):
            # The same step is the same state: leave it, so that there is no moment without it.
            if io.latest_checkpoint(self.checkpoints) != folder:
                io.save_checkpoint(folder, state)
            io.prune_checkpoints(self.checkpoints, KEEP)
        return folder

    def return_to(self, step: int, state: dict[str, Any]) -> None:
        """Make the state after `step` steps the newest checkpoint, and drop checkpoints and samples
        of later steps.

        It is written first: a crash in between leaves later checkpoints, which lead here again.
        """
        folder = self.checkpoints / f"step-{step:08d}"
        with _writing(self.path):
            io.save_checkpoint(folder, state)
            for grid in self.grids():
                if grid.stem > folder.name:
                    grid.unlink()
            for later in self.checkpoints.glob("step-*"):
                if later.name > folder.name:
                    aside = files.temporary(later)  # renamed first: never half of one
                    later.rename(aside)
                    files.remove(aside)

    def load_checkpoint(self) -> dict[str, Any] | None:
        """The newest state that is whole, or None when there is none yet.

        Raises RunError when there are checkpoints and none can be read.
        """
        for attempt in range(3):
            latest = io.latest_checkpoint(self.checkpoints)
            if latest is None:
                if any(self.checkpoints.glob("step-*")):
                    again = f"minigen train --config {shlex.quote(str(self.config_file))}"
                    raise RunError(
                        f"{self.checkpoints}: no checkpoint there can be read; to begin again"
                        f" in a new folder: {again}"
                    )
                return None
            try:
                return io.load_checkpoint(latest)
            except OSError:
                if attempt == 2:  # a running training may just have replaced it by a newer one
                    raise
        return None

    def log(self, record: dict[str, Any]) -> None:
        with _writing(self.path):
            files.append_line(self.metrics_file, record)

    def read_metrics(self) -> list[dict[str, Any]]:
        return files.read_jsonl(self.metrics_file) if self.metrics_file.exists() else []

    def findings(self) -> list[dict[str, Any]]:
        """What was found wrong while training: {"step", "name", "text"}, in order."""
        return [each for record in self.read_metrics() for each in record.get("findings", ())]

    def forget_metrics_after(self, step: int) -> None:
        """Drop the lines of steps that a resumed run will do again."""
        if self.metrics_file.exists():
            with _writing(self.path):
                files.truncate_jsonl(self.metrics_file, lambda line: line.get("step", 0) <= step)

    def grids(self) -> list[Path]:
        """The grids of samples made while training, in order."""
        return sorted(self.samples.glob(f"step-{'[0-9]' * 8}.png"))

    def resume_command(self, steps: int | None = None) -> str:
        more = f" --steps {steps}" if steps else ""
        return f"minigen train --resume {shlex.quote(str(self.path))}{more}"

    # one writer at a time --------------------------------------------------------------------

    def lock(self) -> None:
        """Become the one process that writes here; UsageError when another one is.

        The operating system holds the lock and drops it when its process ends, however it ends, so
        that a dead process never blocks a run.
        """
        path = self.path / ".lock"
        with _writing(self.path):
            while True:
                handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
                if not _try_lock(handle):
                    pid = os.read(handle, 32).decode(errors="replace").strip()
                    os.close(handle)
                    raise UsageError(
                        f"{self.path}: process {pid or 'unknown'} is writing this run; wait for it"
                        " or stop it, or choose another --out"
                    )
                # The holder before may have removed the file between the two calls above.
                with contextlib.suppress(FileNotFoundError):
                    if os.fstat(handle).st_ino == os.stat(path).st_ino:
                        break
                os.close(handle)
            os.ftruncate(handle, 0)
            os.write(handle, str(os.getpid()).encode())
        self._lock = handle

    def unlock(self) -> None:
        """Let others write here; may be called twice."""
        if self._lock is not None:
            handle, self._lock = self._lock, None
            with contextlib.suppress(OSError):  # Windows removes no open file
                (self.path / ".lock").unlink()
            os.close(handle)


def _try_lock(handle: int) -> bool:
    """Lock an open file without waiting; whether that went well."""
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        try:
            os.lseek(handle, 1024, os.SEEK_SET)  # beyond the text, which others want to read
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        except OSError:
            return False
        finally:
            os.lseek(handle, 0, os.SEEK_SET)
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn what the operating system refuses into a RunError of one line."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.args[1:]:
            raise RunError(f"{path}: cannot be written: {error.strerror}") from error
        if error.filename is None:  # `minigen.files` has said it all
            raise RunError(str(error)) from error
        raise RunError(f"{error.filename}: cannot be written: {error.strerror}") from error


def _slug(text: str) -> str:
    """What a model, or a data spec, is called in a folder's name: the last of its words."""
    last = Path(text.rpartition(":")[2]).stem
    return re.sub(r"[^A-Za-z0-9_.]+", "-", last).strip("-.").lower() or "run"


def _known_runs(path: Path) -> str:
    """A hint at the runs that lie where this one was looked for."""
    import difflib

    with contextlib.suppress(OSError):
        folder = path.parent if path.parent.is_dir() else Path("runs")
        names = [str(each.parent) for each in sorted(folder.glob("*/config.toml"))]
        if not names and Path("runs").is_dir():
            names = [str(each.parent) for each in sorted(Path("runs").glob("*/config.toml"))]
        if names:
            close = difflib.get_close_matches(str(path), names, n=1, cutoff=0)
            return f"; did you mean {close[0]}?"
    return "; make one with minigen train"
