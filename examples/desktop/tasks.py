"""What would block the window, in threads of its own; signals bring back what comes of it."""

from __future__ import annotations

from contextlib import suppress
from threading import Event, Thread
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Signal

from edge_llama import Model, StateError, WorkerDied, find_model, inspect

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_llama import Chat, Reply, Stream

    Speaker = Chat | Model


class Task(QObject):
    """Runs :meth:`run` in a thread.

    Signals are emitted in that thread; connected to methods of the window, they are delivered in
    the window's, because Qt queues them. Hold a task, and :meth:`wait` for it before you let go:
    a QObject should end in the thread that made it.
    """

    progressed = Signal(object)
    succeeded = Signal(object)
    failed = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self._cancelled = Event()
        self._thread = Thread(target=self._work, daemon=True)

    def start(self) -> None:
        """Begin, once the signals are connected."""
        self._thread.start()

    def cancel(self) -> None:
        """Ask for an early end, which one of the signals will tell."""
        self._cancelled.set()

    def wait(self) -> None:
        """Block until it has ended, which is at once when a signal has told so."""
        self._thread.join()

    def run(self) -> object:
        """Do the work and return what ``succeeded`` hands over; in the thread."""
        raise NotImplementedError

    def _work(self) -> None:
        try:
            result = self.run()
        except Exception as error:  # noqa: BLE001 - all of them are shown in the window
            self.failed.emit(error)
        else:
            self.succeeded.emit(result)


class Loading(Task):
    """Opens a model, of which ``progressed`` tells the fraction that is loaded.

    It takes the place of ``previous``, which is closed once the file is known to be good, and
    then None.
    """

    def __init__(self, name: str | None, previous: Model | None) -> None:
        super().__init__()
        self._name, self.previous = name, previous

    def run(self) -> tuple[Model, Speaker]:
        """Open the model; memory may not suffice for both, so the previous one goes first.

        It runs in a process of its own: should that die, the window says so and goes on.
        A model without a chat template continues what it is told.
        """
        info = inspect(find_model(self._name))
        if self.previous is not None:
            self.previous.close()
            self.previous = None
        model = Model.open(info.path, isolate=True, on_progress=self._tell)
        return model, model.chat() if model.has_chat_template else model

    def _tell(self, done: float) -> bool:
        self.progressed.emit(done)
        return not self._cancelled.is_set()  # False ends the load


class Answering(Task):
    """Reads a stream, of which ``progressed`` brings each piece of text; ends with the reply."""

    def __init__(self, begin: Callable[[], Stream]) -> None:
        super().__init__()
        self._begin = begin
        self._stream: Stream | None = None

    def run(self) -> Reply:
        """Begin the stream and read it to its end, be it cancelled."""
        self._stream = stream = self._begin()
        if self._cancelled.is_set():
            stream.cancel()
        for text in stream:
            self.progressed.emit(text)
        return stream.reply

    def cancel(self) -> None:
        """Stop the model, also while it reads; the text so far stays."""
        super().cancel()
        if self._stream is not None:
            self._stream.cancel()


class Watching(Task):
    """Looks at a model's memory every second; ``progressed`` brings the bytes of its process."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self._model = model

    def run(self) -> None:
        """Look until it is cancelled, or the model is gone."""
        with suppress(StateError):
            while not self._cancelled.wait(1):
                with suppress(WorkerDied):  # the next look begins another
                    self.progressed.emit(self._model.memory().process.resident)
