"""Keeps what Orbax and TensorStore print about a failed save off the terminal; it reaches us as an exception anyway."""

import functools
import logging
import sys
import traceback


@functools.cache
def suppress() -> None:
    """Silence Orbax, and nothing else, for the rest of this process; calling it again changes nothing.

    Orbax logs each failure as several tracebacks before it raises it. It also closes its event loop at the first failed
    write, and for every other write that ends later TensorStore hands "Event loop is closed" to sys.unraisablehook,
    possibly long after the save, which is why nothing here is undone. Of the writes that failed beside the first one
    asyncio logs, whenever they are collected, that nobody asked for their exception.
    """
    logging.getLogger("absl").addFilter(_is_foreign)
    logging.getLogger("asyncio").addFilter(_is_asked_for)
    before = sys.unraisablehook

    def hook(unraisable: "sys.UnraisableHookArgs") -> None:
        if not _is_late_write(unraisable):
            before(unraisable)

    sys.unraisablehook = hook


def _is_foreign(record: logging.LogRecord) -> bool:
    return "/orbax/" not in record.pathname


def _is_asked_for(record: logging.LogRecord) -> bool:
    if not record.exc_info:
        return True
    # A future of TensorStore comes from C++ and has no frames, but says where it wrote.
    from_tensorstore = "tensorstore_spec=" in str(record.exc_info[1])
    frames = traceback.walk_tb(record.exc_info[2])
    return not from_tensorstore and not any("/orbax/" in frame.f_code.co_filename for frame, _ in frames)


def _is_late_write(unraisable: "sys.UnraisableHookArgs") -> bool:
    error, trace = unraisable.exc_value, unraisable.exc_traceback
    # Called from C++, so that the traceback begins in asyncio itself: anybody else's would begin in their own file.
    return (
        isinstance(error, RuntimeError)
        and str(error) == "Event loop is closed"
        and unraisable.object is None
        and trace is not None
        and trace.tb_frame.f_code.co_name == "call_soon_threadsafe"
    )
