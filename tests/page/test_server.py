"""The routes: for this machine's browser alone, nothing but the folder's pictures."""

import zlib

import numpy as np
import pytest

pytest.importorskip("fastapi")
from fastapi.testclient import TestClient

from mgcl.page.server import make_app
from tests.page.scenes import SIDE, begin, middle, settle, until, write_scenes

HERE = "http://127.0.0.1:8765"


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    root = tmp_path_factory.mktemp("served") / "scenes"
    return root, write_scenes(root, 3)


@pytest.fixture(scope="module")
def session(labels):
    made = begin(labels[0])
    yield made
    made.close()


@pytest.fixture(scope="module")
def client(session):
    return TestClient(make_app(session), base_url=HERE)


def planes(answer) -> np.ndarray:
    count, height, width, *_ = map(int, answer.headers["x-shape"].split(","))
    data = answer.content
    if len(data) != count * height * width:
        data = zlib.decompress(data)
    return np.frombuffer(data, np.uint8).reshape(count, height, width)


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "127.0.0.1.evil.example:8765"},
        {"host": "192.168.0.7:8765"},
        {"host": "["},
        {"origin": "http://["},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://localhost:9999"},
        {"sec-fetch-site": "cross-site"},
    ],
)
def test_other_names_and_other_sites_get_nothing(client, headers):
    for path in ("/", "/api/open", "/api/items/0.jpg"):
        assert client.get(path, headers=headers).status_code == 403
    assert client.post("/api/undo", headers=headers).status_code == 403


def test_its_own_page_is_answered(client):
    page = client.get("/", headers={"sec-fetch-site": "none"})
    assert page.status_code == 200 and "app.js" in page.text
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert client.get("/api/state", headers={"origin": HERE}).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/../command.py",
        "/%2e%2e/command.py",
        "/..%2fcommand.py",
        "//etc/passwd",
        "/api/items/..%2f..%2fx.jpg",
        "/api/pictures/-1/0/0/0.jpg",
        "/api/pictures/99/0/0/0.jpg",
        "/api/pictures/0/7/0/0.jpg",
        "/api/pictures/0/0/9/0.jpg",
        "/api/pictures/0/masks?x=-3&y=0&level=1",
        "/api/items/77/planes",
    ],
)
def test_nothing_outside_the_folder_is_served(client, path):
    assert client.get(path).status_code in (400, 404, 422)


def test_marks_by_the_page_are_found_and_shown(client, session, labels):
    number = client.post("/api/classes", json={"name": "red"}).json()["number"]
    y, x = middle(labels[1]["000.png"], 1)
    words = {"picture": 0, "x": x, "y": y, "level": 2, "number": number}
    assert client.post("/api/mark", json=words).json() == {"changed": True}
    settle(session)
    state = client.get("/api/state").json()
    assert state["searched"] == 3 and state["classes"] == [[1, "red", "#ff40a0", 1, 0]]
    results = client.get("/api/results?number=1").json()
    assert sorted(results["order"]) == [0, 1, 2]
    over = int(255 * 0.5) + 1
    tile = planes(client.get("/api/pictures/0/0/0/0/planes"))
    assert tile.shape == (3, SIDE, SIDE)
    assert tile[2, y, x] == number
    each = [planes(client.get(f"/api/items/{n}/planes"))[1] for n in range(3)]
    assert results["pixels"][0][over] == sum((level > 127).sum() for level in each)
    assert results["images"][0][over] == sum((level > 127).any() for level in each)
    objects = client.get("/api/objects?threshold=0.5").json()["objects"]
    assert objects["1"] >= 3
    masks = planes(client.get(f"/api/pictures/0/masks?x={x}&y={y}&level=2"))
    assert masks.shape == (1, SIDE, SIDE) and masks[0, y, x] > 0


def test_mistakes_are_said(client):
    words = {"picture": 0, "x": 3, "y": 3, "level": 2, "number": 42}
    answer = client.post("/api/mark", json=words)
    assert answer.status_code == 400 and "no class 42" in answer.json()["error"]
    assert client.post("/api/classes", json={"name": " "}).status_code == 400
    assert client.post("/api/looking", json={"threshold": 7}).status_code == 400


def test_the_export_is_begun_once(client, session):
    assert client.post("/api/export").json() == {"begun": True}
    until(lambda: not session.exported["running"])
    assert (session.folder / "export" / "predict.json").exists()


@pytest.mark.parametrize("threshold", ["nan", "-0.1", "1.5"])
def test_a_threshold_that_is_none_is_refused_in_words(client, threshold):
    answer = client.get(f"/api/objects?threshold={threshold}")
    assert (answer.status_code, answer.json()) == (400, {"error": "threshold is from 0 to 1"})
