"""What a command prints of many files, one after the other."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from rich.markup import escape

from helixwave.console import console
from helixwave.errors import InputError

Read = TypeVar("Read")


def show_each(
    paths: Iterable[Path],
    read: Callable[[Path], Read],
    *,
    show: Callable[[Read], None],
    plain: Callable[[Read], dict[str, Any]],
    as_json: bool,
) -> bool:
    """Print what files hold, for people or as one line of JSON a file.

    Args:
        read: what is known of a file; it raises InputError where that cannot be read.
        show: prints it.
        plain: the same as JSON can hold it.

    Returns:
        whether all of them could be read; those that could not are printed with the reason.
    """
    failed = 0
    for path in paths:
        try:
            known = read(path)
        except InputError as error:
            failed += 1
            if as_json:
                print(json.dumps({"file": str(path), "error": str(error)}, ensure_ascii=False))
            else:
                console.print(f"[red]{escape(str(error))}[/]\n")
            continue
        if as_json:
            print(json.dumps(plain(known), ensure_ascii=False))
        else:
            show(known)
    return not failed
