"""A JSON Schema to edit, beside the form that it describes."""

from __future__ import annotations

import json
from typing import Any, cast

from PySide6.QtCore import QTimer, Signal
from PySide6.QtGui import QFontDatabase
from PySide6.QtWidgets import (
    QFrame,
    QLabel,
    QPlainTextEdit,
    QPushButton,
    QScrollArea,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from .fields import Field, Schema, make_field

EXAMPLE = """{
  "type": "object",
  "properties": {
    "name": {"type": "string", "maxLength": 40},
    "age": {"type": "integer", "minimum": 0, "maximum": 150},
    "city": {"type": "string", "maxLength": 40},
    "contact": {"enum": ["e-mail", "phone", "letter"]},
    "newsletter": {"type": "boolean"},
    "interests": {
      "type": "array",
      "items": {"type": "string", "maxLength": 30},
      "maxItems": 4
    }
  },
  "required": ["name", "age", "city", "contact", "newsletter", "interests"],
  "additionalProperties": false
}"""

#: The form follows the schema this long after the last key (milliseconds).
_PATIENCE = 300


class FormPanel(QWidget):
    """Asks, by ``fill_requested``, for values that fit the schema; :meth:`fill` shows them."""

    fill_requested = Signal(object)  # as a dict it would arrive with its keys sorted

    def __init__(self) -> None:
        super().__init__()
        self.schema: Schema | None = None
        self.editor = QPlainTextEdit()
        self.editor.setFont(QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont))
        self.fault = QLabel(wordWrap=True)
        self.button = QPushButton("Fill from the message")
        self._area = QScrollArea(widgetResizable=True)
        self._area.setFrameShape(QFrame.Shape.NoFrame)
        self._tabs = QTabWidget(documentMode=True)
        self._tabs.addTab(self._area, "Form")
        self._tabs.addTab(self.editor, "JSON Schema")
        layout = QVBoxLayout(self)
        for widget in (self._tabs, self.fault, self.button):
            layout.addWidget(widget)
        self._timer = QTimer(self, interval=_PATIENCE, singleShot=True)
        self._timer.timeout.connect(self._rebuild)
        self.editor.textChanged.connect(self._timer.start)
        self.button.clicked.connect(self._request)
        self.editor.setPlainText(EXAMPLE)
        self._rebuild()

    @property
    def field(self) -> Field:
        """The form; its ``value()`` is what the user may have changed since."""
        return cast("Field", self._area.widget())

    def fill(self, value: Any) -> None:
        """Show a value that fits the schema."""
        self.field.show_value(value)
        self._tabs.setCurrentIndex(0)

    def _request(self) -> None:
        self._timer.stop()
        self._rebuild()
        if self.schema is not None:
            self.fill_requested.emit(self.schema)

    def _rebuild(self) -> None:
        try:
            schema = json.loads(self.editor.toPlainText())
            if schema == self.schema:
                return
            self._area.setWidget(make_field(schema, schema))
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            self.schema = None
            self.fault.setText(f"This is no schema: {error}")
        else:
            self.schema = schema
            self.fault.clear()
