"""What a caller asks, in whatever form -> the tokens of a prompt that fits."""

from __future__ import annotations

import contextlib
import threading
from functools import cached_property
from typing import TYPE_CHECKING

from .errors import InvalidOptionError, TemplateError
from .messages import Message, as_dicts
from .overflow import ContextPolicy
from .prompt import chat_tokens, least_tokens
from .template import ChatTemplate
from .tokenmemory import TokenMemory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .config import Overflow
    from .gguf_file import GGUFInfo
    from .native import NativeModel
    from .overflow import Prompt
    from .sampling import Sampling

#: Texts of up to so many characters for each token of the context are tokenised in any case.
_LONG = 8


class Prompting:
    """Makes the prompts of one model, with its vocabulary and its chat template."""

    def __init__(
        self, info: GGUFInfo, native: NativeModel, *, overflow: Overflow, n_ctx: int
    ) -> None:
        self._info, self._native = info, native
        self._policy, self._n_ctx = ContextPolicy(overflow, n_ctx), n_ctx
        self._template: ChatTemplate | None = None
        self._lock = threading.Lock()

    def text(self, prompt: str | Sequence[int], sampling: Sampling, *, raw: bool) -> Prompt:
        """Return the prompt of what :meth:`Model.stream` is given; errors as there."""
        if not isinstance(prompt, str):
            tokens = self.checked(prompt)
        elif not prompt:
            raise InvalidOptionError("the prompt is empty", hint="Give at least one character.")
        elif raw or self._info.chat_template is None:
            if self._policy.keeps_texts:
                self._check_size(prompt)
            tokens = self._native.tokenize(prompt, add_special=True, parse_special=True)
        else:
            return self.chat([Message("user", prompt)], sampling)
        return self._policy.text(tokens, sampling, keep=int(tokens[:1] == [self._native.bos]))

    def chat(
        self, messages: Sequence[Message], sampling: Sampling, *, dropped_turns: int = 0
    ) -> Prompt:
        """Return the prompt of a conversation; see :meth:`ContextPolicy.chat`."""
        must_stay = self._policy.must_stay(messages)
        if self._is_long(sum(len(message.content) for message in must_stay)):
            with contextlib.suppress(TemplateError):  # it may insist on some order of roles
                self._check_size(self.template().render(as_dicts(must_stay)))
        return self._policy.chat(messages, self._render, sampling, dropped_turns=dropped_turns)

    def _is_long(self, n_chars: int) -> bool:
        return n_chars > _LONG * self._n_ctx

    def _check_size(self, text: str) -> None:
        """Refuse a text that cannot fit before it is tokenised, which may take many seconds."""
        if self._is_long(len(text)):
            self._policy.check_least(least_tokens(self._native, text))

    def checked(self, tokens: Sequence[int]) -> list[int]:
        """Return ``tokens`` if there are any and the vocabulary has them all.

        Raises:
            InvalidOptionError: it has not.
        """
        for token in tokens:
            if not 0 <= token < self._native.n_vocab:
                raise InvalidOptionError(
                    f"token {token} is not in the vocabulary of {self._native.n_vocab}",
                    hint="Use ids of this model's own tokenizer.",
                )
        if not tokens:
            raise InvalidOptionError("the prompt is empty", hint="Give at least one token.")
        return list(tokens)

    def template(self) -> ChatTemplate:
        """Return the chat template; TemplateError when the model has none, or it is not valid."""
        with self._lock:
            if self._template is None:
                source = self._info.chat_template
                if source is None:
                    raise TemplateError(
                        f"{self._info.path}: the model has no chat template",
                        hint="It is probably a base model; let it continue text with generate.",
                    )
                self._template = ChatTemplate(
                    source, bos=self._text(self._native.bos), eos=self._text(self._native.eos)
                )
            return self._template

    def _render(
        self, messages: Sequence[Message], *, add_generation_prompt: bool = True
    ) -> list[int]:
        return chat_tokens(
            self._memory,
            self.template(),
            as_dicts(messages),
            bos=self._text(self._native.bos),
            add_generation_prompt=add_generation_prompt,
        )

    @cached_property
    def _memory(self) -> TokenMemory:
        return TokenMemory(self._native, self._native.cuts)

    def _text(self, token: int | None) -> str:
        return "" if token is None else self._native.text(token)
