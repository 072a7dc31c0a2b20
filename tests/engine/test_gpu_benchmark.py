"""The pieces of `benchmarks.gpu`, on the CPU at a small size."""

import torch

from benchmarks import gpu
from benchmarks.gpu import Case, Row

SMALL = Case(torch.device("cpu"), "efficientnet_lite0", 64, repeats=1)


def values(rows) -> dict[str, object]:
    return {row.what: row.value for row in rows if row.right}


def test_without_a_gpu_it_says_so_and_ends_with_2(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main(["--to", str(tmp_path / "out")]) == 2
    assert "no CUDA device" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_the_same_device_agrees_with_itself_and_lower_precision_is_told_apart():
    found = values(gpu.agreement_rows(SMALL, batch=1))
    for part in ("logits", "loss", "gradients"):
        assert found[f"{part}, float32, against the CPU"] == 0
    assert 0 < found["logits, bf16, against the CPU"] < 0.2
    assert not torch.backends.cuda.matmul.allow_tf32


def test_every_section_gives_rows_and_what_finds_no_time_says_so(monkeypatch):
    found = values(gpu.speed_rows(SMALL, batches=[2]))
    for name in ("training step", "inference"):
        assert all(found[f"{name}, batch 2, {p}"] > 0 for p in gpu.PRECISIONS)
    assert values(gpu.sync_rows(SMALL, batch=1))["host syncs in a training step"] == 0
    assert values(gpu.group_rows(SMALL)) == {"gloo, one process": "the same"}
    twice = values(gpu.deterministic_rows(SMALL, batch=1, steps=2))
    assert twice == {"deterministic training, twice": "the same"}
    assert not torch.are_deterministic_algorithms_enabled()
    assert len(values(gpu.loader_rows(SMALL, batch=2, images=8, workers=0))) == 4
    found = values(gpu.query_rows(SMALL))
    for name in ("matcher", "mgcl", "mgcl+matcher"):
        assert found[f"one query, {name}, against the CPU"] == 0 < found[f"one query, {name}"]
    rows = [*gpu.measure(SMALL, 600, ["device"]), *gpu.measure(SMALL, -1, ["masks"])]
    assert "torch" in rows[0].what and rows[-1].what == "the rest of masks"


def test_a_section_that_fails_says_so_and_the_next_is_measured(monkeypatch, capsys):
    def broken(case):
        yield Row("a", 1.0)
        raise RuntimeError("no kernel\nfor this")

    monkeypatch.setitem(gpu.SECTIONS, "broken", broken)
    rows = [*gpu.measure(SMALL, 600, ["broken", "device"])]
    assert [row.right for row in rows] == [True, False, True] and "torch" in rows[-1].what
    assert "RuntimeError: no kernel for this **(wrong)**" in gpu.markdown(rows)


def test_the_table_marks_what_is_wrong():
    text = gpu.markdown([Row("a", 1.23456, "ms"), Row("b", "not the same", right=False)])
    assert "| a | 1.235 | ms |" in text and "| b | not the same **(wrong)** |  |" in text
