"""From a JSON Schema to form fields; each takes and returns a JSON value."""

from __future__ import annotations

import json
from typing import Any, Protocol, cast

from PySide6.QtCore import QSize
from PySide6.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QLineEdit,
    QPlainTextEdit,
    QSizePolicy,
    QWidget,
)

Schema = dict[str, Any]
_LARGEST = 2.0**53  # whole numbers up to this are exact in a double


class Field(Protocol):
    """A widget that shows a JSON value and lets it be changed."""

    def value(self) -> Any:
        """Return the value as it is now."""
        ...

    def show_value(self, value: Any) -> None:
        """Show ``value``, which fits the schema."""
        ...


class TextField(QLineEdit):
    """A string."""

    def value(self) -> str:  # noqa: D102 - as Field says, here and below
        return self.text()

    def show_value(self, value: str) -> None:  # noqa: D102
        self.setText(value)
        self.setCursorPosition(0)


class NumberField(QDoubleSpinBox):
    """A number; whole with no ``decimals``."""

    def __init__(self, schema: Schema, decimals: int) -> None:
        super().__init__()
        self.setDecimals(decimals)
        self.setRange(schema.get("minimum", -_LARGEST), schema.get("maximum", _LARGEST))
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def textFromValue(self, value: float) -> str:  # noqa: N802, D102 - Qt's name
        return f"{value:.15g}"

    def value(self) -> float | int:  # noqa: D102
        number = super().value()
        return number if self.decimals() else int(number)

    def show_value(self, value: float) -> None:  # noqa: D102
        self.setValue(value)


class SwitchField(QCheckBox):
    """True or false."""

    def value(self) -> bool:  # noqa: D102
        return self.isChecked()

    def show_value(self, value: bool) -> None:  # noqa: D102, FBT001 - it is the value
        self.setChecked(value)


class ChoiceField(QComboBox):
    """One of the values of an ``enum``."""

    def __init__(self, values: list[Any]) -> None:
        super().__init__()
        self._values = values
        self.addItems([one if isinstance(one, str) else json.dumps(one) for one in values])

    def value(self) -> Any:  # noqa: D102
        return self._values[self.currentIndex()]

    def show_value(self, value: Any) -> None:  # noqa: D102
        self.setCurrentIndex(self._values.index(value))


class LinesField(QPlainTextEdit):
    """An array of strings, one a line."""

    def __init__(self) -> None:
        super().__init__()
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def sizeHint(self) -> QSize:  # noqa: N802, D102 - Qt's name
        return QSize(super().sizeHint().width(), self.fontMetrics().lineSpacing() * 5)

    def value(self) -> list[str]:  # noqa: D102
        return self.toPlainText().splitlines()

    def show_value(self, value: list[str]) -> None:  # noqa: D102
        self.setPlainText("\n".join(value))


class JSONField(QPlainTextEdit):
    """Whatever has no field of its own, as JSON; raises ValueError while that is wrong."""

    def value(self) -> Any:  # noqa: D102
        return json.loads(self.toPlainText() or "null")

    def show_value(self, value: Any) -> None:  # noqa: D102
        self.setPlainText(json.dumps(value, indent=2, ensure_ascii=False))


class ObjectField(QWidget):
    """An object: a row for each property."""

    def __init__(self, schema: Schema, root: Schema) -> None:
        super().__init__()
        form = QFormLayout(self)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        self._fields: dict[str, Field] = {}
        for name, part in schema["properties"].items():
            field = make_field(part, root)
            field.setToolTip(str(part.get("description", "")))
            form.addRow(str(part.get("title", name.replace("_", " ").capitalize())), field)
            self._fields[name] = cast("Field", field)

    def __getitem__(self, name: str) -> Field:
        return self._fields[name]

    def value(self) -> dict[str, Any]:  # noqa: D102
        return {name: field.value() for name, field in self._fields.items()}

    def show_value(self, value: dict[str, Any]) -> None:  # noqa: D102
        for name, part in value.items():
            if name in self._fields:
                self._fields[name].show_value(part)


def make_field(schema: Schema, root: Schema) -> QWidget:
    """Return the :class:`Field` for ``schema``, a part of ``root``."""
    while str(schema.get("$ref", "")).startswith("#/$defs/"):
        schema = root["$defs"][schema["$ref"].removeprefix("#/$defs/")]
    kind, items = schema.get("type"), schema.get("items", {})
    if "enum" in schema:
        return ChoiceField(schema["enum"])
    if kind == "object" and schema.get("properties"):
        return ObjectField(schema, root)
    if kind in {"integer", "number"}:
        return NumberField(schema, decimals=6 if kind == "number" else 0)
    if kind == "array" and items.get("type") == "string" and "enum" not in items:
        return LinesField()
    simple: dict[str, type[QWidget]] = {"string": TextField, "boolean": SwitchField}
    return simple.get(str(kind), JSONField)()
