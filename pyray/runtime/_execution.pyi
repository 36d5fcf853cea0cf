"""Running one task: its function, its arguments, its results, its failure."""

from typing import Any

def task_errors() -> list[Any]: ...
