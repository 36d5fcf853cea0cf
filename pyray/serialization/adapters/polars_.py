"""polars frames and series as Arrow data, in place where polars can; lazy ones as polars does.

May import polars, and pyarrow if it is installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["reducer_for"]


def reducer_for(cls: type) -> Callable[[Any], Any] | None:
    """The reducer for exact frames and series; everything else has polars' own reduction."""
    if cls is pl.DataFrame:
        return reduce_frame
    if cls is pl.Series:
        return reduce_series
    return None


def reduce_frame(frame: pl.DataFrame) -> Any:
    """A pyarrow table, if every dtype survives the way there and back; else polars' own bytes."""
    try:
        # An empty slice tells whether the dtypes survive, at no cost.
        survives = _restore_frame(_to_arrow(frame.head(0))).schema == frame.schema
        if survives and frame.width:
            return _restore_frame, (_to_arrow(frame),)
    except Exception:
        pass  # no pyarrow, or a dtype that Arrow lacks
    return frame.__reduce_ex__(5)


def reduce_series(series: pl.Series) -> Any:
    """A table of one column, and the name apart, because Arrow refuses an empty one."""
    func, args = reduce_frame(series.to_frame("values"))[:2]
    if func is not _restore_frame:
        return series.__reduce_ex__(5)
    return _restore_series, (*args, series.name)


def _to_arrow(frame: pl.DataFrame) -> Any:
    # The newest level has a layout for each of polars' own, so that nothing is converted.
    return frame.to_arrow(compat_level=pl.CompatLevel.newest())


def _restore_frame(table: Any) -> pl.DataFrame:
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame


def _restore_series(table: Any, name: str) -> pl.Series:
    return _restore_frame(table).to_series().alias(name)
