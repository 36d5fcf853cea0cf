"""`register_ray`: makes `joblib.Parallel(backend="ray")` run its calls as tasks of the session."""

from __future__ import annotations

__all__ = ["register_ray"]


def register_ray() -> None:
    """Make "ray" a backend of joblib: `with joblib.parallel_config("ray"): ...`.

    Raises:
        ImportError: joblib is not installed.
    """
    try:
        from joblib.parallel import register_parallel_backend
    except ImportError as error:
        raise ImportError(
            "register_ray() makes a backend of joblib, which is not installed: pip install joblib"
        ) from error

    from .backend import RayBackend

    register_parallel_backend("ray", RayBackend)
