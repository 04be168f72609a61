"""The conversation that is being held: its turns as this process knows them, and on the disk."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from .records import messages

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..messages import Message
    from .records import Conversation, Status, Turn
    from .store import ConversationStore


class Thread:
    """A conversation of which every turn is kept as it happens.

    It gets a place in the store with its first question. If another process goes on with the same
    conversation, the two part: this one goes on in a copy. If it was deleted, what follows is a
    conversation of its own, and what was deleted stays so.

    Attributes:
        id: the conversation's, once it has one.
        turns: those that this process knows.
    """

    def __init__(
        self,
        store: ConversationStore,
        *,
        model: str,
        system: str | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self._store = store
        self._model, self._system, self._settings = model, system, dict(settings or {})
        self.id: int | None = None
        self.turns: tuple[Turn, ...] = ()
        self._answering: Turn | None = None

    @classmethod
    def resume(cls, store: ConversationStore, conversation: Conversation) -> Thread:
        """Go on with a conversation of the store."""
        thread = cls(
            store,
            model=conversation.model,
            system=conversation.system,
            settings=conversation.settings,
        )
        thread.id, thread.turns = conversation.id, store.turns(conversation.id)
        return thread

    @property
    def messages(self) -> list[Message]:
        """What the model is to be shown of it."""
        return messages(self._system, self.turns)

    def describe(self, *, model: str, system: str | None, settings: Mapping[str, Any]) -> None:
        """Say what belongs to it beside its turns."""
        self._model, self._system, self._settings = model, system, dict(settings)
        if self.id is not None:
            self._store.update(self.id, model=model, system=system, settings=settings)

    def ask(self, question: str) -> None:
        """Keep a question; it is on the disk when this returns."""
        turn = None
        if self.id is not None:
            after = self.turns[-1].id if self.turns else None
            turn = self._store.ask(self.id, question, after=after)
            if turn is None:
                self._part()
        if turn is None:
            if self.id is None:
                self.id = self._begin(question)
            after = self.turns[-1].id if self.turns else None
            turn = self._store.ask(self.id, question, after=after)
        if turn is not None:
            self.turns += (turn,)
        self._answering = turn

    def save(self, answer: str) -> None:
        """Keep what there is of the answer so far."""
        self._keep(answer, "unfinished")

    def finish(self, answer: str, status: Status = "complete") -> None:
        """Keep the answer as it is in the end."""
        self._keep(answer, status)
        self._answering = None

    def discard(self) -> None:
        """Take the question back that is being answered, if there is one."""
        if self._answering is not None:
            self._answering = None
            self.undo()

    def undo(self) -> Turn:
        """Take the last turn out and return it; IndexError if there is none."""
        turn = self.turns[-1]
        self._store.remove_turn(turn.id)
        self.turns = self.turns[:-1]
        return turn

    def _keep(self, answer: str, status: Status) -> None:
        if self._answering is None:
            return
        self._store.answer(self._answering.id, answer, status)
        turn = dataclasses.replace(self._answering, answer=answer, status=status)
        self.turns = (*self.turns[:-1], turn)

    def _begin(self, title: str) -> int:
        return self._store.begin(
            title=title, model=self._model, system=self._system, settings=self._settings
        )

    def _part(self) -> None:
        """Go on elsewhere: another process changed the conversation, or deleted it."""
        known: Sequence[Turn] = self.turns
        still_there = self.id is not None and any(one.id == self.id for one in self._store.list())
        self.id, self.turns = None, ()
        if still_there and known:
            self.id = self._begin(known[0].question)
            self.turns = tuple(self._store.copy(known, self.id))
