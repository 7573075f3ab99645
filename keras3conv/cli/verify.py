"""Define the command that compares written files with the digests beside them: a manifest, or `metadata.json`."""

from pathlib import Path
from typing import Annotated

import typer

from keras3conv.cli.app import command
from keras3conv.cli.handing import hand_out
from keras3conv.cli.options import Debug, Json


@command("keras3conv verify net.safetensors")
def verify(
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="A file that was written, the index of its shards, or a folder.")
    ],
    *,
    as_json: Json = False,
    debug: Debug = False,
) -> int:
    """Compare what `transfer` or `convert` wrote with the digests beside it. The exit status is 1 if a byte differs."""
    from keras3conv import api

    return hand_out(api.verify(out), (), as_json=as_json)
