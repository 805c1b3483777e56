"""Where things are in a run directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Layout:
    """The names of a run's files; ``root`` is the run directory."""

    root: Path

    @property
    def manifest(self) -> Path:
        return self.root / "manifest.json"

    @property
    def summary(self) -> Path:
        return self.root / "summary.json"

    @property
    def metrics(self) -> Path:
        return self.root / "metrics.jsonl"

    @property
    def timings(self) -> Path:
        return self.root / "timings.jsonl"

    @property
    def events(self) -> Path:
        return self.root / "events.jsonl"

    @property
    def chain(self) -> Path:
        return self.root / "chain.jsonl"

    @property
    def lock(self) -> Path:
        return self.root / ".lock"

    @property
    def folders(self) -> tuple[Path, ...]:
        return tuple(self.root / name for name in ("attempts", "rollouts", "evals", "checkpoints"))

    def attempt(self, number: int) -> Path:
        return self.root / "attempts" / f"{number:04d}.json"

    def rollout(self, step: int) -> Path:
        return self.root / "rollouts" / f"{step:06d}.jsonl"

    def evaluation(self, step: int) -> Path:
        return self.root / "evals" / f"{step:06d}.jsonl"

    def checkpoint(self, step: int) -> Path:
        return self.root / "checkpoints" / f"{step:06d}"

    def attempts(self) -> dict[int, Path]:
        return _numbered(self.root / "attempts", ".json")

    def rollouts(self) -> dict[int, Path]:
        """The recorded steps, in order, and their files."""
        return _numbered(self.root / "rollouts", ".jsonl")

    def evaluations(self) -> dict[int, Path]:
        return _numbered(self.root / "evals", ".jsonl")

    def checkpoints(self) -> dict[int, Path]:
        """Folders of completed steps, in order; not every one need be complete."""
        return _numbered(self.root / "checkpoints", "")


def _numbered(folder: Path, suffix: str) -> dict[int, Path]:
    found = {int(p.stem): p for p in folder.glob(f"*{suffix}") if p.stem.isascii() and p.stem.isdigit()}
    return dict(sorted(found.items()))
