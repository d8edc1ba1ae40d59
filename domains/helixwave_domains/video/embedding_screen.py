"""`helixwave video embed` from its request to what it says on the screen."""

import shutil
from collections.abc import Callable
from pathlib import Path

from helixwave.console import console
from helixwave.errors import InputError
from helixwave.file_rows import run
from rich.markup import escape

from helixwave_domains.video.embedding_file import SUFFIXES, write_one_file
from helixwave_domains.video.embedding_run import Request, rows_of
from helixwave_domains.video.finding import Found


def run_embed(
    request: Callable[[Path], Request], found: Found, out: Path, *, workers: int, resume: bool, overwrite: bool
) -> int:
    """Embed clips into a folder, or by way of a folder beside it into one file.

    Args:
        request: for a folder.
        found: the clips.
        out: the folder or file.
        workers: processes.
        resume: go on with what is there.
        overwrite: replace it.

    Returns:
        how many clips failed.

    Raises:
        InputError: results are there already, or not one clip has vectors.
    """
    one_file = out.suffix.lower() in SUFFIXES
    if one_file and out.exists() and not overwrite:
        raise InputError(f"{out} is there already. Choose another --out, or --overwrite")
    folder = out.with_name(f"{out.name}.parts") if one_file else out
    statuses = run(request(folder), found.paths, workers=workers, resume=resume, overwrite=overwrite, what="clips")
    failed = [row for row in rows_of(folder) if row["status"] != "ok"]
    if one_file:
        write_one_file(folder, out)
        shutil.rmtree(folder)
    for row in failed[:20]:
        console.print(escape(row["reason"]))
    console.print(f"{statuses['ok']:,} embedded, {len(failed):,} failed")
    if found.skipped:
        more = f" and {len(found.skipped) - 1:,} more" * (len(found.skipped) > 1)
        console.print(escape(f"skipped, no clips: {found.skipped[0]}{more}"))
    print(out)
    return len(failed)
