"""The page's side of the network: thin routes over a session, for this machine's browser alone.

Asked by any other name than this machine's own, or by another site's page, it answers nothing: a
site that has its name point here (DNS rebinding) or sends forms here learns and changes nothing.
"""

import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, Field

from mgcl.page.session import Session

STATIC = Path(__file__).parent / "static"
OWN_NAMES = ("127.0.0.1", "localhost", "::1")
THUMB = 160  # pixels of a gallery picture


class Mark(BaseModel):
    """A click."""

    picture: int
    x: int
    y: int
    level: int
    number: int
    against: bool = False


class Stroke(BaseModel):
    """A line of the brush; number 0 erases."""

    picture: int
    points: list[tuple[float, float]] = Field(max_length=20_000)
    radius: float
    number: int
    against: bool = False


class ClassWords(BaseModel):
    """A class to be made, changed or taken away."""

    number: int | None = None
    name: str | None = None
    colour: str | None = Field(None, pattern="^#[0-9a-fA-F]{6}$")
    remove: bool = False


class Looking(BaseModel):
    """What the user has before their eyes, and the threshold."""

    items: list[int] = Field([], max_length=2000)
    picture: int | None = None
    threshold: float | None = None


def make_app(session: Session) -> FastAPI:
    """The routes of a session."""
    app = FastAPI(title="mgcl page", docs_url=None, redoc_url=None, openapi_url=None)

    @app.middleware("http")
    async def guard(request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
        if not _own(request):
            return JSONResponse({"error": "this page answers its own machine only"}, 403)
        response = await go_on(request)
        response.headers["Content-Security-Policy"] = (
            "default-src 'self'; img-src 'self' blob: data:; frame-ancestors 'none'"
        )
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    @app.exception_handler(ValueError)
    @app.exception_handler(OSError)
    async def refuse(_: Request, error: Exception) -> Response:
        return JSONResponse({"error": str(error)}, 400)

    _looking(app, session)
    _marking(app, session)
    app.mount("/", StaticFiles(directory=STATIC, html=True))
    return app


def _own(request: Request) -> bool:
    """Whether a request is from a page of this server, by a name of this machine."""
    origin = request.headers.get("origin")
    try:
        if urlsplit(f"//{request.headers.get('host', '')}").hostname not in OWN_NAMES:
            return False
        if origin is not None and urlsplit(origin).netloc != request.headers["host"]:
            return False
    except ValueError:  # not even an address
        return False
    return request.headers.get("sec-fetch-site", "none") in ("none", "same-origin")


def _looking(app: FastAPI, session: Session) -> None:
    pictures, search, project = session.pictures, session.search, session.project

    @app.get("/api/open")
    def open_() -> dict[str, Any]:
        return {
            "folder": str(session.root.absolute()),
            "project": str(session.folder.absolute()),
            "network": session.network,
            "window": session.encoder.window,
            "level": session.regions.usual,
            "pictures": [[p.key, p.height, p.width, p.levels, p.stamp] for p in pictures.all],
            "items": [[i.picture, i.y, i.x, i.height, i.width] for i in pictures.items],
        }

    @app.get("/api/state")
    def state() -> dict[str, Any]:
        counts = project.counts()
        done, undone = project.undoable
        return {
            **search.status()._asdict(),
            "classes": [[*c[:3], *counts[c.number]] for c in project.classes],
            "marked": {session.by_key[k].number: ids for k, ids in project.marked().items()},
            "threshold": project.threshold,
            "revision": project.revision,
            "undo": done,
            "redo": undone,
            "said": [*project.said, *search.said],
            "problems": dict(pictures.problems),
            "export": session.exported,
        }

    @app.get("/api/results")
    def results(number: int = 0) -> dict[str, Any]:
        numbers = search.numbers()
        found = search.tallies
        total = np.zeros((len(numbers), 256), np.int64)
        shown = np.zeros((len(numbers), 256), np.int64)  # items whose highest level it is
        scores = np.full(len(found), -1.0)
        changes = np.zeros((len(found), 2), np.int64)
        for place, one in enumerate(found):
            if one is None or one.pixels.shape[0] != len(numbers):
                continue
            total += one.pixels
            for c, counts in enumerate(one.pixels):
                (levels,) = np.nonzero(counts)
                if len(levels):
                    shown[c, levels[-1]] += 1
            scores[place] = one.score.get(number, max(one.score.values(), default=-1.0))
            changes[place] = one.gained, one.lost
        order = np.argsort(-scores, kind="stable")
        return {
            "numbers": numbers,
            "order": order.tolist(),
            "scores": np.round(scores, 3).tolist(),
            "changes": changes.tolist(),
            "pixels": total[:, ::-1].cumsum(axis=1)[:, ::-1].tolist(),
            "images": shown[:, ::-1].cumsum(axis=1)[:, ::-1].tolist(),
            "versions": search.versions(),
        }

    @app.get("/api/objects")
    def objects(threshold: float) -> dict[str, Any]:
        if not 0 <= threshold <= 1:  # not a number, too
            raise ValueError("threshold is from 0 to 1")
        return {"objects": session.objects(threshold)}

    @app.get("/api/items/{number}.jpg")
    def thumb(number: int) -> Response:
        if not 0 <= number < len(pictures.items):
            raise ValueError(f"there is no item {number}")
        return _jpeg(pictures.part(pictures.items[number], THUMB), 85)

    @app.get("/api/items/{number}/planes")
    def item_planes(number: int) -> Response:
        if not 0 <= number < len(pictures.items):
            raise ValueError(f"there is no item {number}")
        return _planes(session.item_planes(number, THUMB))

    @app.get("/api/pictures/{number}/{z}/{row}/{column}.jpg")
    def tile(number: int, z: int, row: int, column: int) -> Response:
        return _jpeg(pictures.tile(session.picture(number), z, row, column), 92)

    @app.get("/api/pictures/{number}/{z}/{row}/{column}/planes")
    def planes(number: int, z: int, row: int, column: int, before: bool = False) -> Response:
        picture = session.picture(number)
        if not 0 <= z < picture.levels or row < 0 or column < 0:
            raise ValueError(f"there is no level {z}")
        return _planes(session.planes(picture, z, row, column, before=before))

    @app.get("/api/pictures/{number}/masks")
    def masks(number: int, x: int, y: int, level: int) -> Response:
        picture = session.picture(number)
        session.regions.region(picture, y, x, level)  # refuses what lies outside
        corner = session.regions.around(picture, y, x)
        return _planes(session.regions.level(picture, corner, level)[None], corner)

    @app.post("/api/looking")
    def looking(words: Looking) -> dict[str, Any]:
        at = [pictures.items[n].picture for n in words.items if 0 <= n < len(pictures.items)]
        search.look_at([*([] if words.picture is None else [words.picture]), *at])
        if words.threshold is not None:
            project.set_threshold(words.threshold)
        return {}


def _marking(app: FastAPI, session: Session) -> None:
    project, search = session.project, session.search

    @app.post("/api/mark")
    def mark(words: Mark) -> dict[str, Any]:
        picture, value = session.picture(words.picture), session.value(words.number, words.against)
        return {"changed": session.click(picture, words.y, words.x, words.level, value)}

    @app.post("/api/stroke")
    def stroke(words: Stroke) -> dict[str, Any]:
        value = session.value(words.number, words.against) if words.number else 0
        picture = session.picture(words.picture)
        return {"changed": session.stroke(picture, words.points, words.radius, value)}

    @app.post("/api/undo")
    def undo() -> dict[str, Any]:
        return _again(project.undo())

    @app.post("/api/redo")
    def redo() -> dict[str, Any]:
        return _again(project.redo())

    def _again(keys: list[str] | None) -> dict[str, Any]:
        search.ask()
        return {
            "changed": keys is not None,
            "pictures": [session.by_key[k].number for k in keys or ()],
        }

    @app.post("/api/classes")
    def classes(words: ClassWords) -> dict[str, Any]:
        number = words.number
        if number is None:
            number = project.add_class(words.name or "", words.colour).number
        elif words.remove:
            project.remove_class(number)
            search.ask()
        else:
            project.edit_class(number, name=words.name, colour=words.colour)
        return {"number": number}

    @app.post("/api/export")
    def export() -> dict[str, Any]:
        return {"begun": session.begin_export()}


def _jpeg(image: np.ndarray, quality: int) -> Response:
    data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
    kept = {"Cache-Control": "private, max-age=86400"}  # the page asks with the file's stamp
    return Response(data, media_type="image/jpeg", headers=kept)


def _planes(planes: np.ndarray, corner: tuple[int, int] = (0, 0)) -> Response:
    """(n, h, w) uint8, packed; its shape and place stand in the header X-Shape."""
    shape = ",".join(map(str, (*planes.shape, *corner)))
    headers = {"X-Shape": shape, "Content-Encoding": "deflate"}
    data = zlib.compress(planes.tobytes(), 1)
    return Response(data, media_type="application/octet-stream", headers=headers)
