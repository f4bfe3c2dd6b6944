"""Close the store of a recorder that nobody closed."""

import os
import threading

from fadiag.capture.session.session import Session

__all__ = ["close_unfinished"]


def close_unfinished(session: Session, process: int) -> None:
    """Close the store of a recorder that was deleted, or that the end of Python left open.

    Parameters
    ----------
    session : Session
    process : int
        The process that made the recorder. A forked copy of it must not write to the store.
    """
    if os.getpid() != process:
        return
    if threading.current_thread().name == "fadiag-writer":
        # The garbage collector may run on the writer's own thread, which cannot wait for its own end.
        threading.Thread(target=session.leave, name="fadiag-close").start()
    else:
        session.leave()
