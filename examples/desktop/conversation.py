"""The conversation: a column of bubbles, whose colours are the palette's."""

from __future__ import annotations

import math

from PySide6.QtCore import QSize, Qt, QTimer, QUrl
from PySide6.QtGui import QResizeEvent, QTextCursor, QTextDocument
from PySide6.QtWidgets import QFrame, QScrollArea, QSizePolicy, QTextBrowser, QVBoxLayout, QWidget

STYLE = """
Conversation, Conversation > QWidget > QWidget { background: palette(base); }
Bubble { border: none; border-radius: 14px; background: palette(window); }
Bubble[role="user"] { background: palette(highlight); color: palette(highlighted-text); }
"""

#: A growing answer is laid out anew this often at most (milliseconds), not for every token.
_REDRAW = 40
_WIDEST = 640


class Bubble(QTextBrowser):
    """One message; as high as its text, and no wider than it needs."""

    def __init__(self, role: str, text: str = "") -> None:
        super().__init__()
        self.text = ""
        self._role, self._ideal = role, 0
        self.setProperty("role", role)  # for the style sheet
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setOpenExternalLinks(True)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        self.document().setDocumentMargin(12)
        self.document().setIndentWidth(24)
        self._timer = QTimer(self, interval=_REDRAW, singleShot=True)
        self._timer.timeout.connect(self._draw)
        self.append_text(text)
        self._draw()

    def append_text(self, text: str) -> None:
        """Add to the message; it is drawn soon."""
        self.text += text
        if not self._timer.isActive():
            self._timer.start()

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Return the width of the text on one line, within bounds."""
        return QSize(min(self._ideal, _WIDEST), self.height())

    def loadResource(self, kind: int, name: QUrl | str) -> None:  # noqa: N802 - Qt's
        """Load no image: a model may write the name of any file."""

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802 - Qt's name
        """Become as high as the text is at the new width."""
        super().resizeEvent(event)
        self._fit()

    def _draw(self) -> None:
        document = self.document()
        if self._role == "user":
            document.setPlainText(self.text)
        else:
            features = QTextDocument.MarkdownFeature
            document.setMarkdown(
                self.text or "…",
                features.MarkdownDialectGitHub | features.MarkdownNoHTML,
            )
            _wrap_code(document)
        document.setTextWidth(-1)
        self._ideal = math.ceil(document.idealWidth()) + 2
        self.updateGeometry()
        self._fit()

    def _fit(self) -> None:
        self.document().setTextWidth(self.viewport().width())
        self.setFixedHeight(math.ceil(self.document().size().height()))


def _wrap_code(document: QTextDocument) -> None:
    """Let long lines of code wrap; they would be cut off."""
    block = document.begin()
    while block.isValid():
        style = block.blockFormat()
        if style.nonBreakableLines():
            style.setNonBreakableLines(False)
            QTextCursor(block).setBlockFormat(style)
        block = block.next()


class Conversation(QScrollArea):
    """All bubbles; keeps showing the last one unless someone has scrolled away from it."""

    def __init__(self) -> None:
        super().__init__()
        column = QWidget()
        self._column = QVBoxLayout(column)
        self._column.setContentsMargins(24, 24, 24, 24)
        self._column.setSpacing(12)
        self._column.addStretch()
        self.setWidget(column)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setStyleSheet(STYLE)
        self._follows = True
        bar = self.verticalScrollBar()
        bar.valueChanged.connect(self._note_position)
        bar.rangeChanged.connect(self._follow)

    @property
    def bubbles(self) -> list[Bubble]:
        """The messages, in their order."""
        return self.findChildren(Bubble)

    def add(self, role: str, text: str = "") -> Bubble:
        """Show a message of ``role``, "user" or "assistant"."""
        bubble = Bubble(role, text)
        side = Qt.AlignmentFlag.AlignRight if role == "user" else Qt.AlignmentFlag.AlignLeft
        self._column.addWidget(bubble, 0, side)
        self._follows = True
        return bubble

    def clear(self) -> None:
        """Remove all messages."""
        for bubble in self.bubbles:
            bubble.setParent(None)
            bubble.deleteLater()

    def _note_position(self, value: int) -> None:
        self._follows = value >= self.verticalScrollBar().maximum() - 4

    def _follow(self, _: int, maximum: int) -> None:
        if self._follows:
            self.verticalScrollBar().setValue(maximum)
