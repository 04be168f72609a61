"""Several files that take their names together: all of them, or none.

The temporary ones lie in a folder beside their destination and have their final names there, so
that llama.cpp, which finds the files of a model by name, can read them before they are published.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from typing import TYPE_CHECKING

from .fileio import SharedFile
from .writer import explain, publish, take_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


@contextlib.contextmanager
def publish_all(files: Sequence[tuple[Path, int]], *, force: bool) -> Iterator[list[Path]]:
    """Yield temporary files, of sizes in bytes, that take their names at the end.

    One file is published as by :func:`writer.publish`. Of several the first, which is the one that
    people open, gets its name last; so there is never a first file without all others. With
    ``force`` old files are put aside before, the first of them first, and deleted at the very end:
    should the machine die in between, they are in ``.NAME.*.part/replaced``.

    Raises:
        OutputError: no space, no permission, or one of the files has appeared meanwhile.
    """
    if len(files) == 1:
        with publish(*files[0], force=force) as temporary:
            yield [temporary]
        return
    paths = [path for path, _ in files]
    folder = paths[0].with_name(f".{paths[0].name}.{secrets.token_hex(4)}.part")
    temporaries = [folder / path.name for path in paths]
    try:
        folder.mkdir(parents=True)
        for temporary, (_, nbytes) in zip(temporaries, files, strict=True):
            temporary.touch(exist_ok=False)
            with SharedFile(temporary, write=True) as file:
                file.reserve(nbytes)
        yield temporaries
        _take_names(temporaries, paths, folder / "replaced", force=force)
    except OSError as error:
        raise explain(error, paths[0], sum(nbytes for _, nbytes in files)) from error
    finally:
        for temporary in temporaries:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # it stays as long as an old file is in it
            folder.rmdir()


def _take_names(
    temporaries: Sequence[Path], paths: Sequence[Path], replaced: Path, *, force: bool
) -> None:
    with contextlib.ExitStack() as undo:
        if force:
            replaced.mkdir()
            undo.callback(replaced.rmdir)
            for path in filter(os.path.lexists, paths):
                path.replace(replaced / path.name)
                undo.callback(os.replace, replaced / path.name, path)
        for temporary, path in reversed(list(zip(temporaries, paths, strict=True))):
            take_name(temporary, path, force=False)
            undo.callback(path.unlink)
        undo.pop_all()
    if force:
        shutil.rmtree(replaced, ignore_errors=True)
