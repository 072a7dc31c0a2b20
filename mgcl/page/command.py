r"""A page on this machine: mark objects, see them found everywhere, correct, export.

    python -m mgcl.page FOLDER

opens a folder of pictures, or one large scene. Nothing leaves this machine: the page answers at
127.0.0.1 alone. What is marked is kept in FOLDER/mgcl-page as it happens, in the form that
`python -m mgcl.predict --supports FOLDER/mgcl-page/project.toml` takes. Exit status: 0 ended by
Ctrl-C, 2 a mistake in what is asked for.
"""

import argparse
import socket
import sys
import threading
import time
import webbrowser
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from mgcl import console
from mgcl.predict.load import WINDOW
from mgcl.predict.options import check_windows, parse_bands

if TYPE_CHECKING:
    from mgcl.page.session import Session

PORT = 8765
OVERLAP = 0.25
NEEDED = ("fastapi", "uvicorn")


def main(argv: Sequence[str] | None = None) -> int:
    """Open the page until Ctrl-C; returns the exit status."""
    words = _parser().parse_args(sys.argv[1:] if argv is None else argv)
    console.set_quiet(words.quiet)
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        console.fail(f"{' and '.join(missing)} missing: pip install -r requirements-page.txt")
        return console.USAGE
    console.say("loading the network")
    try:
        return _serve(words)
    except (ValueError, OSError) as error:
        console.fail(error)
        return console.USAGE


def _serve(words: argparse.Namespace) -> int:
    import uvicorn

    from mgcl.page.server import make_app
    from mgcl.page.session import Session

    check_windows(words.window, words.overlap)
    listening = _listen(words.port)
    session = Session(
        words.folder,
        project=words.project,
        checkpoint=words.checkpoint,
        config=words.config,
        masks=words.masks,
        window=words.window,
        overlap=words.overlap,
        bands=words.bands,
        device=words.device,
    )
    session.search.start()
    address = f"http://127.0.0.1:{listening.getsockname()[1]}/"
    _greet(session, address)
    if words.browser:
        threading.Thread(target=_open, args=(address,), daemon=True).start()
    server = uvicorn.Server(
        uvicorn.Config(make_app(session), log_level="error", lifespan="off", access_log=False)
    )
    try:
        server.run(sockets=[listening])
    finally:
        session.close()
    return console.DONE


def _greet(session: "Session", address: str) -> None:
    pictures = session.pictures
    count = len(pictures.all)
    console.say(f"{count} picture{'s' * (count != 1)} in {session.root.absolute()}")
    for key, problem in list(pictures.problems.items())[:5]:
        console.warn(problem if key in problem else f"{key}: {problem}")
    console.say(f"kept in {session.folder.absolute()}")
    console.say(f"open {address} in a browser on this machine (only this machine can); Ctrl-C ends")


def _open(address: str) -> None:
    time.sleep(0.5)
    webbrowser.open(address)


def _listen(port: int | None) -> socket.socket:
    """A socket on this machine's own address; without a wish the first free port from PORT on.

    Raises:
        ValueError: the port that is wished for is taken.
    """
    for number in [port] if port is not None else [*range(PORT, PORT + 20), 0]:
        found = socket.socket()
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind(("127.0.0.1", number))
            found.listen(128)
        except OSError as error:
            found.close()
            if port is not None:
                raise ValueError(f"--port {port}: {error.strerror}") from None
            continue
        return found
    raise ValueError("no port is free")


def _port(word: str) -> int:
    if not word.isdecimal() or int(word) > 65535:
        raise argparse.ArgumentTypeError(f"{word}: a number from 0 (any that is free) to 65535")
    return int(word)


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog=console.called("python -m mgcl.page"),
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = made.add_argument
    add("folder", type=Path, metavar="FOLDER", help="pictures, searched below; or one scene's file")
    text = "folder for marks and results (left out: FOLDER/mgcl-page)"
    add("--project", type=Path, metavar="DIR", help=text)
    text = "weights (left out: the matcher, which needs no training)"
    add("--checkpoint", type=Path, metavar="FILE", help=text)
    text = "constants, for a checkpoint that holds none (the authors')"
    add("--config", type=Path, metavar="FILE", help=text)
    text = "superpixels, sam, sam2, or a folder of mask maps (left out: as in training, else "
    add("--masks", default="", metavar="KIND", help=f"{text}superpixels)")
    text = "pixels of a picture that a window spans: larger for large objects (%(default)s)"
    add("--window", type=int, default=WINDOW, metavar="PIXELS", help=text)
    text = "least share of a window that the next one covers again; less is faster (%(default)s)"
    add("--overlap", type=float, default=OVERLAP, metavar="SHARE", help=text)
    text = "bands to show as red, green and blue, such as 4,3,2 (left out: as the file says)"
    add("--bands", type=parse_bands, metavar="R,G,B", help=text)
    text = f"of 127.0.0.1 (left out: the first free one from {PORT} on)"
    add("--port", type=_port, metavar="N", help=text)
    text = "do not open a browser"
    add("--no-browser", dest="browser", action="store_false", help=text)
    add("--device", choices=("auto", "cuda", "cpu"), default="auto", help="(%(default)s)")
    console.add_quiet(made)
    return made
