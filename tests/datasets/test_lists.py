import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mgcl.datasets import lists
from mgcl.datasets.benchmarks import BENCHMARKS
from mgcl.datasets.lists import Entry

ISAID, DLRSD = BENCHMARKS["isaid"], BENCHMARKS["dlrsd"]


def read(path, text, *, published=False, benchmark=ISAID):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return lists.read_list(path, benchmark, "val", published=published)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "fold0.txt"


def test_lines_become_entries_in_order_with_ids_from_zero(path):
    entries = read(path, "P1_0_256_0_256__04\nbuildings07__15\na__b__1\n")
    assert entries == [
        Entry("val", "P1_0_256_0_256", 3),
        Entry("val", "buildings07", 14),
        Entry("val", "a__b", 0),
    ]


def test_published_drops_what_follows_the_last_newline(path):
    assert len(read(path, "a__1\nb__2\nc__3", published=True)) == 2
    assert len(read(path, "a__1\nb__2\nc__3", published=False)) == 3
    assert len(read(path, "a__1\nb__2\nc__3\n", published=True)) == 3
    assert len(read(path, "a__1", published=True)) == 0


@pytest.mark.parametrize(
    "text", [b"a__1\r\nb__2\r\n", b"\xef\xbb\xbfa__1\nb__2\n", b"a__1\n\n b__2 \n"]
)
@pytest.mark.parametrize("published", [True, False])
def test_crlf_byte_order_mark_and_blank_lines_change_nothing(path, text, published):
    assert read(path, text, published=published) == [Entry("val", "a", 0), Entry("val", "b", 1)]


@pytest.mark.parametrize("line", ["P0001", "P0001__", "P0001__x", "P1__-1", "P1__²", "P1_3"])
def test_a_line_without_id_is_named(path, line):
    with pytest.raises(
        ValueError, match=r"fold0\.txt, line 2: .* has no class id: expected NAME__ID"
    ):
        read(path, f"a__1\n{line}\n")


@pytest.mark.parametrize("label_id", ["0", "16", "99", "1" * 5000])
def test_a_line_with_an_unknown_class_is_named(path, label_id):
    with pytest.raises(
        ValueError, match=rf"line 1: class id {label_id} of 'a' does not belong here"
    ):
        read(path, f"a__{label_id}\n")


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../b", "..", "C:\\x"])
def test_a_line_that_leads_out_of_the_root_is_named(path, name):
    with pytest.raises(ValueError, match="line 1: image name .* must stay inside the data root"):
        read(path, f"{name}__1\n")


def test_a_list_that_is_no_text_is_named(path):
    with pytest.raises(ValueError, match=r"fold0\.txt is not UTF-8 text"):
        read(path, b"a__1\n\xff\xfe\n")


def test_a_missing_list_is_named_with_the_remedy(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no list .*val/fold1\.txt: see data/README"):
        lists.test_entries(ISAID, tmp_path, 1, published=True)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=80), st.booleans())
def test_any_bytes_give_entries_or_a_value_error(path, text, published):
    try:
        entries = read(path, text, published=published, benchmark=DLRSD)
    except ValueError as error:
        assert "fold0.txt" in str(error)
        return
    assert all(0 <= entry.class_id < 15 and entry.name for entry in entries)


names = st.text("abcP019_", min_size=1, max_size=12)
entry_lists = st.lists(
    st.builds(Entry, st.sampled_from(["train", "val"]), names, st.integers(0, 14))
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(entry_lists)
def test_written_lists_read_back(tmp_path, entries):
    lists.write_lists(ISAID, tmp_path, entries)
    for fold in range(3):
        novel, base = ISAID.test_class_ids(fold), ISAID.train_class_ids(fold)
        test = lists.test_entries(ISAID, tmp_path, fold, published=True)
        train = lists.training_entries(ISAID, tmp_path, fold, published=True)
        assert test == [e for e in entries if e.split == "val" and e.class_id in novel]
        assert sorted(train) == sorted(
            e for e in entries if e.split == "train" and e.class_id in base
        )


def test_training_reads_the_other_folds_and_the_test_its_own(isaid_root):
    for fold in range(3):
        novel = ISAID.test_class_ids(fold)
        train = lists.training_entries(ISAID, isaid_root / "splits", fold, published=True)
        test = lists.test_entries(ISAID, isaid_root / "splits", fold, published=True)
        assert {e.class_id for e in train} == {*ISAID.train_class_ids(fold)}
        assert {e.class_id for e in test} == {*novel}
        assert {e.split for e in train} == {"train"}
        assert {e.split for e in test} == {"val"}


def test_a_class_of_another_fold_in_a_fold_list_is_refused(tmp_path):
    path = lists.list_path(tmp_path, "val", 0)
    path.parent.mkdir(parents=True)
    path.write_text("a__6\n")
    with pytest.raises(
        ValueError, match="line 1: class id 6 of 'a' does not belong here: 1 ship, 2"
    ):
        lists.test_entries(ISAID, tmp_path, 0, published=True)


def test_heldout_images_are_neither_trained_on_nor_tested(isaid_root):
    splits = isaid_root / "splits"
    for fold in range(3):
        used = lists.test_entries(ISAID, splits, fold, published=True)
        test = {e.name for e in used}
        used += lists.training_entries(ISAID, splits, fold, published=True)
        train = {e.name for e in used} - test
        held = lists.heldout_entries(ISAID, splits, fold, published=True, used=used)
        assert held
        assert not {e.name for e in held} & (test | train)
        assert {e.class_id for e in held} <= {*ISAID.train_class_ids(fold)}


def test_nothing_is_held_out_where_train_and_val_share_their_images(dlrsd_root):
    splits = dlrsd_root / "splits"
    used = lists.training_entries(DLRSD, splits, 0, published=True)
    used += lists.test_entries(DLRSD, splits, 0, published=True)
    assert lists.heldout_entries(DLRSD, splits, 0, published=True, used=used) == []


@given(entry_lists, st.floats(0, 0.99), st.integers(0, 5), st.sets(names, max_size=3))
def test_split_holdout_parts_the_images_and_spares_the_excluded(entries, share, seed, spared):
    exclude = [Entry("val", name, 0) for name in spared]
    kept, held = lists.split_holdout(entries, share, seed, exclude=exclude)
    assert sorted(kept + held) == sorted(entries)
    assert not {e.name for e in kept} & {e.name for e in held}
    assert not {e.name for e in held} & spared


def test_split_holdout_takes_about_the_share_and_depends_on_the_seed():
    entries = [Entry("train", f"P{i}", i % 15) for i in range(2000)]
    _, held = lists.split_holdout(entries, 0.1, seed=0)
    _, other = lists.split_holdout(entries, 0.1, seed=1)
    assert 150 < len(held) < 250
    assert held != other
    assert lists.split_holdout(entries, 0.0, seed=0) == (entries, [])
    longer = lists.split_holdout([Entry("train", "new", 0), *entries], 0.1, seed=0)[1]
    assert [e for e in longer if e.name != "new"] == held


def test_a_share_to_hold_out_must_leave_something():
    with pytest.raises(ValueError, match="share 1.0 of images to hold out"):
        lists.split_holdout([], 1.0, seed=0)


def test_listed_images_holds_each_image_once_and_all_exist(isaid_root, dlrsd_root):
    for benchmark, root, count in ((ISAID, isaid_root, 150), (DLRSD, dlrsd_root, 90)):
        images = lists.listed_images(benchmark, root, root / "splits", published=True)
        assert len(images) == len(set(images.values())) == count
        assert all(path.is_file() for path in images.values())
