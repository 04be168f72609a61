"""The window: it never waits, never shows a traceback, and leaves nothing behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QCloseEvent, QKeyEvent, QKeySequence
from PySide6.QtWidgets import (
    QDockWidget,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QMainWindow,
    QPlainTextEdit,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from edge_llama import Chat, EdgeLlamaError, Grammar, LoadCancelledError, Sampling

from .conversation import Bubble, Conversation
from .form import FormPanel
from .tasks import Answering, Loading, Task, Watching

if TYPE_CHECKING:
    from edge_llama import Model, Reply

    from .fields import Schema
    from .tasks import Speaker

STYLE = """
#composer {
    border: 1px solid palette(mid); border-radius: 12px; padding: 6px; background: palette(base);
}
#composer:focus { border-color: palette(highlight); }
#error { background: #b3261e; color: white; padding: 10px 24px; }
#central { background: palette(base); }
QPushButton { padding: 7px 18px; border-radius: 8px; border: 1px solid palette(mid); }
QPushButton:default:enabled {
    background: palette(highlight); color: palette(highlighted-text); border: none;
}
QToolBar { padding: 8px; spacing: 6px; border: none; }
QStatusBar QLabel { padding: 0 8px; }
"""
MIB = 1 << 20


class Composer(QPlainTextEdit):
    """Where the user types; Enter sends, Shift+Enter begins a line."""

    submitted = Signal()

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802 - Qt's name
        """Send on Enter."""
        shift = event.modifiers() & Qt.KeyboardModifier.ShiftModifier
        if event.key() in {Qt.Key.Key_Return, Qt.Key.Key_Enter} and not shift:
            self.submitted.emit()
        else:
            super().keyPressEvent(event)


class ChatWindow(QMainWindow):
    """Chats with a model that it loads; one :class:`Task` at a time runs beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.model: Model | None = None
        self.reply: Reply | None = None
        self.sampling = Sampling()
        self._speaker: Speaker | None = None
        self._watch: Watching | None = None
        self._task: Task | None = None
        self._bubble: Bubble | None = None
        self.setWindowTitle("edge-llama")
        self.resize(1080, 660)
        self.setStyleSheet(STYLE)
        self.conversation, self.form = Conversation(), FormPanel()
        self.composer = Composer()
        self.composer.setObjectName("composer")  # for the style sheet
        self.composer.setPlaceholderText("Ask something. Enter sends, Shift+Enter begins a line.")
        self.composer.setFixedHeight(76)
        self.send_button = QPushButton("Send", default=True)
        self.stop_button = QPushButton("Stop")
        self.stop_button.setShortcut(Qt.Key.Key_Escape)
        self.error = QLabel(wordWrap=True)
        self.error.setObjectName("error")
        self.error.hide()
        self.error.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self._lay_out()
        self._add_actions()
        self._add_status()
        self.composer.submitted.connect(self.send)
        self.send_button.clicked.connect(self.send)
        self.form.fill_requested.connect(self.fill_form)
        self._refresh()

    @property
    def is_busy(self) -> bool:
        """Whether a model is being loaded, or answers."""
        return self._task is not None

    # What the user does.

    def load(self, name: str | None = None) -> None:
        """Open the model file ``name`` in place of the one that is open."""
        task = Loading(name, self.model)
        task.progressed.connect(self._show_progress)
        task.succeeded.connect(self._loaded)
        self._start(task)

    def send(self) -> None:
        """Say what the user typed, and show the answer as it comes."""
        if self._speaker is not None and (text := self._take_message()):
            speaker, sampling = self._speaker, self.sampling
            self._answer(text, Answering(lambda: speaker.stream(text, sampling=sampling)))

    def fill_form(self, schema: Schema) -> None:
        """Read the form's values out of what the user typed."""
        if self.model is not None and (text := self._take_message()):
            model, greedy = self.model, Sampling(temperature=0, max_tokens=1024)
            task = Answering(
                lambda: model.stream(text, grammar=Grammar.json_schema(schema), sampling=greedy)
            )
            task.succeeded.connect(self._fill)
            self._answer(text, task)
            self._append("```json\n")

    def stop(self) -> None:
        """End the load or the answer."""
        if self._task is not None:
            self._task.cancel()

    def clear(self) -> None:
        """Begin a new conversation."""
        if not self.is_busy:
            self.conversation.clear()
            if isinstance(self._speaker, Chat):
                self._speaker.clear()

    def choose_model(self) -> None:
        """Ask for a model file and load it."""
        path, _ = QFileDialog.getOpenFileName(self, "Open a model", filter="Models (*.gguf)")
        if path:
            self.load(path)

    def closeEvent(self, event: QCloseEvent) -> None:  # noqa: N802 - Qt's name
        """Close at once; :meth:`shut_down` waits when nobody looks any more."""
        self.stop()
        event.accept()

    def shut_down(self) -> None:
        """End what runs and free the model; call it after ``app.exec()``."""
        for task in (self._task, self._watch):
            if task is not None:
                task.cancel()
                task.wait()
        if self.model is not None:
            self.model.close()

    # What the task tells; Qt calls these in the window's thread.

    def _show_progress(self, done: float) -> None:
        self.progress.setValue(round(done * 100))

    def _show_memory(self, resident: int) -> None:
        self.memory.setText(f"{resident / MIB:.0f} MiB")

    def _loaded(self, opened: tuple[Model, Speaker]) -> None:
        self.model, self._speaker = opened
        self.conversation.clear()
        if self._watch is not None:
            self._watch.cancel()
            self._watch.wait()
        self._watch = Watching(self.model)
        self._watch.progressed.connect(self._show_memory)
        self._watch.start()
        for note in self.model.plan.notes:
            self.statusBar().showMessage(note, 10_000)

    def _append(self, text: str) -> None:
        if self._bubble is not None:
            self._bubble.append_text(text)

    def _answered(self, reply: Reply) -> None:
        self.reply = reply
        endings = {"cancelled": " (stopped)", "context": " (the context is full)"}
        ending = endings.get(reply.finish_reason, "")
        self.speed.setText(f"{reply.tokens_per_second:.1f} tokens/s{ending}")
        self.context.setText(f"context {reply.context_tokens}/{reply.n_ctx}")

    def _fill(self, reply: Reply) -> None:
        if reply.finish_reason != "cancelled":
            try:
                self.form.fill(reply.parse())
            except EdgeLlamaError as error:
                self._show_error(error)

    def _failed(self, error: Exception) -> None:
        if isinstance(self._task, Loading) and self._task.previous is None:
            self.model = self._speaker = None
        if not isinstance(error, LoadCancelledError):
            self._show_error(error)
        self._end()

    def _end(self) -> None:
        if self._bubble is not None and not self._bubble.text:
            self._bubble.deleteLater()  # the answer ended before its first word
        if self._task is not None:
            self._task.wait()
        self._task = self._bubble = None
        self._refresh()
        self.composer.setFocus()

    # How it is done.

    def _take_message(self) -> str:
        text: str = self.composer.toPlainText().strip()
        if self.is_busy:
            return ""
        self.composer.clear()
        return text

    def _answer(self, text: str, task: Answering) -> None:
        self.conversation.add("user", text)
        self._bubble = self.conversation.add("assistant")
        task.progressed.connect(self._append)
        task.succeeded.connect(self._answered)
        self._start(task)

    def _start(self, task: Task) -> None:
        if self._task is not None:
            return
        self._task = task
        task.failed.connect(self._failed)
        task.succeeded.connect(self._end)
        self.error.hide()
        self._refresh()
        task.start()

    def _show_error(self, error: Exception) -> None:
        self.error.setText(f"{error}\n{getattr(error, 'hint', '')}".strip())
        self.error.show()

    def _refresh(self) -> None:
        loading = isinstance(self._task, Loading)
        ready = self.model is not None and not self.is_busy
        for widget in (self.send_button, self.form.button, self.clear_action):
            widget.setEnabled(ready)
        self.open_action.setEnabled(not self.is_busy)
        self.stop_button.setVisible(self.is_busy)
        self.progress.setVisible(loading)
        self.progress.setValue(0)
        self.name.setText("loading" if loading else "no model")
        if self.model is None or loading:
            self.memory.clear()
        else:
            self.name.setText(self.model.info.name)

    def _lay_out(self) -> None:
        row, column, central = QHBoxLayout(), QVBoxLayout(), QWidget()
        central.setObjectName("central")
        row.setContentsMargins(24, 0, 24, 20)
        for widget in (self.composer, self.stop_button, self.send_button):
            row.addWidget(widget)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.error)
        column.addWidget(self.conversation)
        column.addLayout(row)
        central.setLayout(column)
        self.setCentralWidget(central)
        self.dock = QDockWidget("Form", self)
        self.dock.setTitleBarWidget(QWidget())  # the toolbar's button opens and closes it
        self.dock.setWidget(self.form)
        self.addDockWidget(Qt.DockWidgetArea.RightDockWidgetArea, self.dock)

    def _add_actions(self) -> None:
        bar = self.addToolBar("Chat")
        bar.setMovable(False)
        bar.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextOnly)
        self.open_action = bar.addAction("Open model…", self.choose_model)
        self.open_action.setShortcut(QKeySequence.StandardKey.Open)
        self.clear_action = bar.addAction("New chat", self.clear)
        self.clear_action.setShortcut(QKeySequence.StandardKey.New)
        bar.addAction(self.dock.toggleViewAction())
        self.stop_button.clicked.connect(self.stop)

    def _add_status(self) -> None:
        self.progress = QProgressBar(maximum=100)
        self.progress.setFixedWidth(160)
        self.name, self.memory, self.speed, self.context = (QLabel() for _ in range(4))
        for widget in (self.progress, self.name, self.memory, self.speed, self.context):
            self.statusBar().addPermanentWidget(widget)
