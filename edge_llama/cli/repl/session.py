"""The conversation behind the terminal: model and record in step, without any input or output."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ... import personas
from ...conversations import Thread
from ...errors import EdgeLlamaError, HistoryError, InvalidOptionError
from ...messages import Message
from ...personas import Persona

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...conversations import Conversation, ConversationStore, Status
    from ...generate import Reply
    from ...grammar import Grammar
    from ...model import Model
    from ...stream import Stream

#: Seconds between two times that an unfinished answer is kept.
_KEEP_SECONDS = 1.0


class Session:
    """A conversation with ``model``, recorded in ``store`` if there is one.

    A store that fails is given up for good, ``on_fault`` hears of it once, and the conversation
    goes on.

    Attributes:
        persona: system prompt, sampling and schema now.
        reply: the last answer, if any.
        attached: texts that go with the next question.
    """

    def __init__(
        self,
        model: Model,
        persona: Persona,
        store: ConversationStore | None,
        on_fault: Callable[[HistoryError], object],
    ) -> None:
        self.model, self.persona, self.store = model, persona, store
        self.reply: Reply | None = None
        self.attached: list[str] = []
        self._on_fault = on_fault
        self._chat = model.chat(system=persona.system)
        self._grammar = _grammar_of(persona.schema)
        self._thread = self._new_thread()
        self._asked = ""
        self._unanswered: str | None = None
        self._text: list[str] = []
        self._kept = 0.0

    # A turn

    def ask(self, question: str) -> Stream:
        """Keep the question and begin the answer; errors as for :meth:`Chat.stream`."""
        question = "\n\n".join([*self.attached, question])
        self._asked, self._unanswered = question, None
        self._text, self._kept = [], time.monotonic()
        self._record(lambda thread: thread.ask(question))
        try:
            stream = self._chat.stream(
                question, sampling=self.persona.sampling, grammar=self._grammar
            )
        except EdgeLlamaError:
            self.fail()
            raise
        self.attached.clear()
        return stream

    def push(self, text: str) -> None:
        """Take a piece of the answer; what there is of it is kept every second."""
        self._text.append(text)
        if time.monotonic() - self._kept >= _KEEP_SECONDS:
            self.keep()

    def keep(self) -> None:
        """Keep what there is of the answer."""
        self._record(lambda thread: thread.save("".join(self._text)))
        self._kept = time.monotonic()

    def end(self, reply: Reply) -> None:
        """Keep the answer as it is in the end."""
        status: Status = "stopped" if reply.finish_reason == "cancelled" else "complete"
        self.reply = reply
        if status == "stopped" and not reply.text:
            self._unanswered = self._asked
        self._record(lambda thread: thread.finish(reply.text, status))

    def fail(self) -> None:
        """Forget the question: there will be no answer."""
        self._record(Thread.discard)

    # Going back

    @property
    def question(self) -> str | None:
        """The last question."""
        if self._unanswered is not None:
            return self._unanswered
        users = [message for message in self._chat.messages if message.role == "user"]
        return users[-1].content if users else None

    @property
    def answer(self) -> str | None:
        """The last answer."""
        answers = [one.content for one in self._chat.messages if one.role == "assistant"]
        return answers[-1] if answers else None

    @property
    def is_unanswered(self) -> bool:
        """Whether the last question has no answer, not even the beginning of one."""
        return self._unanswered is not None

    @property
    def is_cut_off(self) -> bool:
        """Whether the last answer ended because the process did."""
        turns = () if self._thread is None else self._thread.turns
        return bool(turns) and turns[-1].status == "unfinished"

    def undo(self) -> None:
        """Take the last question back, with its answer, if there is one."""
        if self.question is None:
            return
        if self._unanswered is None:
            self._chat.messages = self._chat.messages[:-2]
            self._record(_take_back_an_answer)
        else:
            self._unanswered = None
            self._record(Thread.undo)

    def clear(self) -> None:
        """Begin another conversation; the one that was stays in the store."""
        self._chat.clear()
        self._unanswered = None
        self._thread = self._new_thread()

    # What it is

    @property
    def id(self) -> int | None:
        """The conversation's id in the store, once it has one."""
        return None if self._thread is None else self._thread.id

    def change(self, persona: Persona) -> None:
        """Go on with other settings; GrammarError for a schema that cannot be used."""
        if persona.schema != self.persona.schema:
            self._grammar = _grammar_of(persona.schema)
        self.persona = persona
        system = [Message("system", persona.system)] if persona.system else []
        rest = [message for message in self._chat.messages if message.role != "system"]
        self._chat.messages = [*system, *rest]
        values = self._settings()
        name = str(self.model.info.path)
        self._record(
            lambda thread: thread.describe(model=name, system=persona.system, settings=values)
        )

    def resume(self, conversation: Conversation) -> None:
        """Go on with a conversation of the store, with the settings that are in use."""
        if self.store is None:
            return
        thread = Thread.resume(self.store, conversation)
        self._chat.messages = [one for one in thread.messages if one.role != "system"]
        self._thread = thread
        last = thread.turns[-1] if thread.turns else None
        self._unanswered = last.question if last is not None and not last.answer else None
        self.change(self.persona)

    def _new_thread(self) -> Thread | None:
        if self.store is None:
            return None
        return Thread(
            self.store,
            model=str(self.model.info.path),
            system=self.persona.system,
            settings=self._settings(),
        )

    def _settings(self) -> dict[str, object]:
        values = personas.to_values(self.persona)
        return {key: values[key] for key in ("sampling", "schema") if key in values}

    def _record(self, action: Callable[[Thread], object]) -> None:
        if self._thread is None:
            return
        try:
            action(self._thread)
        except HistoryError as fault:
            self._thread = self.store = None
            self._on_fault(fault)


def _grammar_of(schema: str | None) -> Grammar | None:
    """Return what keeps answers to a JSON Schema file; GrammarError if it is none."""
    from ...grammar import Grammar

    return None if schema is None else Grammar.json_schema(Path(schema))


def _take_back_an_answer(thread: Thread) -> None:
    """Take the last answered turn out, and the questions after it that never were answered."""
    while thread.turns:
        turn = thread.undo()
        if turn.answer or turn.status == "complete":
            return


def persona_of(conversation: Conversation) -> Persona:
    """Return how a conversation was held; what cannot be read of its settings is left out."""
    try:
        kept = personas.from_values(dict(conversation.settings))
    except InvalidOptionError:
        kept = Persona()
    return dataclasses.replace(kept, system=conversation.system, model=conversation.model)


def overridden(base: Persona, by: Persona) -> Persona:
    """Return ``base`` with everything that is set in ``by``; an empty system prompt is none."""
    changes = personas.sampling_values(by.sampling)
    return dataclasses.replace(
        base,
        system=base.system if by.system is None else by.system or None,
        sampling=dataclasses.replace(base.sampling, **changes),
        schema=by.schema or base.schema,
    )
