"""Copy the files of this working tree, as git sees them (tracked, or new and not ignored), to the folder named."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

__all__ = ["copy_tree"]

_LEFT = (".*_cache", ".coverage*", ".git", ".hypothesis", ".nox", ".venv*", "*.egg-info", "__pycache__", "node_modules")


def copy_tree(root: Path, target: Path) -> None:
    """Copy ``root`` to ``target``, a new folder. Where there is no git, or no repository, all but what tools leave."""
    command = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, check=True, capture_output=True).stdout
    except (OSError, subprocess.CalledProcessError):
        shutil.copytree(root, target, symlinks=True, ignore=shutil.ignore_patterns(*_LEFT))
        return
    target.mkdir(parents=True)
    for name in filter(None, listed.decode().split("\0")):
        if (root / name).is_file():  # else deleted, and not yet committed
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, target / name, follow_symlinks=False)


if __name__ == "__main__":
    copy_tree(Path(__file__).resolve().parents[1], Path(sys.argv[1]))
