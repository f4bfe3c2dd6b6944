"""Close the store of a recorder that the user did not close."""

import os
import threading

from fadiag.capture.session.session import Session

__all__ = ["close_unfinished"]


def close_unfinished(session: Session, process: int) -> None:
    """Close the store of a recorder that was deleted, or that is still open when Python exits.

    Parameters
    ----------
    session : Session
    process : int
        The id of the process that made the recorder. A forked process must not write to the store.
    """
    if os.getpid() != process:
        return
    if threading.current_thread().name == "fadiag-writer":
        # The garbage collector may run on the writer's thread, and a thread cannot wait for itself to end.
        threading.Thread(target=session.leave, name="fadiag-close").start()
    else:
        session.leave()
