"""Constants: files, overrides, refusals, presets, help."""

import re
import tomllib
from pathlib import Path

import pytest

from mgcl import old_names
from mgcl.config import (
    Config,
    ConfigError,
    load,
    load_or_exit,
    load_runs_or_exit,
    reference,
    to_toml,
    with_values,
)
from tests.small_run import REPOSITORY

PRESETS = sorted((REPOSITORY / "configs").glob("*.toml"))
PUBLISHED = [p for p in PRESETS if p.stem.split("_")[-1] in ("vgg16", "resnet50", "resnet101")]
CONSTANTS = [
    (section, key)
    for section, field in Config.model_fields.items()
    for key in field.annotation.model_fields
]


def load_text(folder: Path, text: str, *words: str) -> Config:
    path = folder / "own.toml"
    path.write_text(text)
    return load(["--config", str(path), *words])


def refusal(folder: Path, text: str, *words: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_text(folder, text, *words)
    return str(caught.value)


def test_the_command_line_is_stronger_than_the_file_and_the_file_than_the_default(tmp_path):
    config = load_text(tmp_path, "[train]\nlr = 0.5\nepochs = 7\n", "--train.epochs", "9")
    assert (config.train.lr, config.train.epochs, config.train.batch_size) == (0.5, 9, 16)


@pytest.mark.parametrize(
    "words, section, key, value",
    [
        ("--model.mgfe false", "model", "mgfe", False),
        ("--model.mgfe=True", "model", "mgfe", True),
        ("--test.shots 1,5,10", "test", "shots", [1, 5, 10]),
        ("--test.shots [2]", "test", "shots", [2]),
        ("--test.threshold calibrated", "test", "threshold", "calibrated"),
        ("--test.threshold 0.3", "test", "threshold", 0.3),
        ("--data.ignore_label 255", "data", "ignore_label", 255),
        ("--data.lists_dir some/where", "data", "lists_dir", Path("some/where")),
        ("--train.lr 5e-3", "train", "lr", 0.005),
    ],
)
def test_a_word_sets_its_constant_in_its_type(tmp_path, words, section, key, value):
    found = getattr(getattr(load_text(tmp_path, "", *words.split()), section), key)
    assert found == value and isinstance(found, type(value))


def test_without_config_the_published_recipe_is_read(monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    assert load([]) == load(["--config", "configs/isaid_resnet50.toml"])


def test_a_preset_is_found_by_its_name_here_first_and_then_where_it_came_with(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert load(["--config", "isaid_vgg16"]).model.backbone == "vgg16"
    assert load([]).run.name == "isaid_resnet50_fold0_seed0"
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/isaid_vgg16.toml").write_text("[train]\nepochs = 3\n")
    mine = load(["--config", "isaid_vgg16"])
    assert (mine.train.epochs, mine.run.name) == (3, "isaid_vgg16_fold0_seed0")
    (tmp_path / "mine").write_text("[train]\nepochs = 4\n")
    assert load(["--config", "mine"]).train.epochs == 4


@pytest.mark.parametrize("name", ["isaid_resnt50", "configs/isaid_resnet5.toml"])
def test_a_mistyped_preset_is_refused_with_the_nearest(name):
    with pytest.raises(ConfigError, match=f"{name} .do you mean isaid_resnet50.*presets: demo, "):
        load(["--config", name])


def test_an_old_name_is_understood_and_told_once(tmp_path, capsys):
    old_names.tell.cache_clear()
    for words in (["--test.cut", "0.3"], ["--test.cut=0.3"]):
        assert load_text(tmp_path, "", *words).test.threshold == 0.3
    told = "warning: --test.cut is called --test.threshold now\n"
    assert capsys.readouterr().err == told
    assert load_text(tmp_path, "[test]\ncut = 0.2\n").test.threshold == 0.2
    assert capsys.readouterr().err == "warning: test.cut is called test.threshold now\n"


def test_the_environment_sets_nothing(tmp_path, monkeypatch):
    for name in ("TRAIN", "train", "TRAIN__LR"):
        monkeypatch.setenv(name, '{"lr": 9.0}' if name.lower() == "train" else "9.0")
    assert load_text(tmp_path, "").train.lr == 0.01


def test_a_run_without_a_name_is_called_by_file_fold_and_seed(tmp_path):
    config = load_text(tmp_path, "", "--data.fold", "2", "--train.seed", "3")
    assert config.run_dir == Path("runs/own_fold2_seed3")
    assert load_text(tmp_path, '[run]\nname = "mine"\n').run_dir == Path("runs/mine")


@pytest.mark.parametrize(
    "text, said",
    [
        ("[data]\nflod = 1\n", ["data.flod", "unknown", "mean data.fold?", "benchmark"]),
        ("[dat]\nfold = 1\n", ["dat", "mean data?", "run, data, masks, model, train, test"]),
        ("fold = 1\n", ["fold", "unknown", "mean data.fold?", "run, data"]),
        ("[data]\nlr = 1\n", ["data.lr", "mean train.lr?"]),
        ("train = 5\n", ["train", "section", "5"]),
    ],
)
def test_an_unknown_key_of_a_file_is_refused_with_the_known_ones(tmp_path, text, said):
    message = refusal(tmp_path, text)
    assert [word for word in [*said, "own.toml"] if word not in message] == []


@pytest.mark.parametrize(
    "words, said",
    [
        ("--data.flod 1", ["--data.flod", "mean --data.fold?", "benchmark"]),
        (
            "--dat.fold 1",
            ["--dat.fold", "mean --data.fold?", "run, data, masks, model, train, test"],
        ),
        ("--fold 1", ["--fold", "mean --data.fold?", "run, data"]),
        ("--seed 1", ["--train.seed or --test.seed?"]),
        ("--colour red", ["--colour; sections: run"]),
        ("--test.shots 1 5", ["'5'", "1,5"]),
    ],
)
def test_an_unknown_word_is_refused_with_the_known_ones(tmp_path, words, said):
    message = refusal(tmp_path, "", *words.split())
    assert [word for word in said if word not in message] == []


@pytest.mark.parametrize(
    "section, key, value, allowed",
    [
        ("train", "epochs", '"50"', "integer"),
        ("train", "epochs", "true", "integer"),
        ("train", "epochs", "0", "greater than or equal to 1"),
        ("train", "lr", '"fast"', "number"),
        ("train", "lr", "-0.1", "greater than 0"),
        ("train", "lr", "inf", "finite"),
        ("train", "weight_decay", "nan", "finite"),
        ("train", "optimizer", '"adamw"', "'sgd' or 'adam'"),
        ("train", "seed", "4294967296", "less than 4294967296"),
        ("model", "mgfe", '"yes"', "boolean"),
        ("model", "mgfe", "1", "boolean"),
        ("model", "weights", "3", "string"),
        ("model", "backbone", '"resnet18"', "'resnet101'"),
        ("data", "fold", "3", "less than or equal to 2"),
        ("data", "fold", "1.0", "integer"),
        ("data", "root", "1979-05-27", "string"),
        ("data", "image_size", "100", "multiple of 32"),
        ("data", "holdout", "1.0", "less than 1"),
        ("data", "ignore_label", "254", "'background' or 255"),
        ("test", "threshold", '"best"', "'calibrated'"),
        ("test", "threshold", "1.5", "less than 1"),
        ("test", "shots", "[]", "at least 1 item"),
        ("test", "shots", "[1, 0]", "greater than or equal to 1"),
        ("run", "name", '".."', "of letters, digits"),
        ("run", "name", '"a/b"', "of letters, digits"),
    ],
)
def test_a_wrong_value_of_a_file_is_refused_with_key_value_and_what_is_allowed(
    tmp_path, section, key, value, allowed
):
    message = refusal(tmp_path, f"[{section}]\n{key} = {value}\n")
    assert f"{section}.{key}: " in message and allowed in message and "own.toml" in message
    given = re.escape(value.strip('"[]').split(", ")[-1])
    assert re.search(f"given: .*{given}", message, re.IGNORECASE)


@pytest.mark.parametrize(
    "words, allowed",
    [
        ("--train.epochs fifty", "integer"),
        ("--data.fold 3", "less than or equal to 2"),
        ("--model.mgfe maybe", "boolean"),
        ("--train.lr inf", "finite"),
        ("--test.threshold 0", "greater than 0"),
        ("--model.backbone resnet51", "or timm:NAME"),
    ],
)
def test_a_wrong_word_is_refused_with_key_value_and_what_is_allowed(tmp_path, words, allowed):
    key, value = words.split()
    message = refusal(tmp_path, "", key, value)
    assert f"{key[2:]}: " in message and allowed in message and f"given: '{value}'" in message
    assert "pattern" not in message


@pytest.mark.parametrize("word", ["nan", "{", "[", "[1, 5"])
def test_a_word_that_is_begun_as_json_and_is_none_is_refused(tmp_path, word):
    message = refusal(tmp_path, "", "--test.shots", word)
    assert "command line" in message and "test" in message and "as 1,5" in message


def test_every_mistake_of_a_file_is_named_at_once(tmp_path):
    message = refusal(tmp_path, "[train]\nlr = -1\nepochs = 0\n[data]\nflod = 1\n")
    assert all(key in message for key in ("train.lr", "train.epochs", "data.flod"))


def test_a_missing_or_broken_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match="nowhere.toml"):
        load(["--config", "nowhere.toml"])
    assert "own.toml" in refusal(tmp_path, "[train\n")


@pytest.mark.parametrize(
    "text",
    [
        "[data]\nfold = " + "9" * 5000,
        "[data]\nfold = 0x" + "f" * 5000,
        "x = " + "[" * 9000,
        "[data]\nfold = \udcff",
    ],
    ids=["digits", "hex", "depth", "bytes"],
)
def test_a_file_that_overtaxes_the_parser_is_named(tmp_path, text):
    path = tmp_path / "x.toml"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ConfigError, match=r"x\.toml cannot be read"):
        load(["--config", str(path)])


def test_a_byte_order_mark_and_crlf_change_nothing(tmp_path):
    path = tmp_path / "x.toml"
    path.write_bytes(b"\xef\xbb\xbf[data]\r\nfold = 2\r\n")
    assert load(["--config", str(path)]).data.fold == 2


def test_a_script_prints_the_mistake_and_ends_with_status_2(tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        load_or_exit(["--config", str(tmp_path / "nowhere.toml")])
    assert caught.value.code == 2 and "nowhere.toml" in capsys.readouterr().err


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_a_preset_holds_its_experiment_alone_and_a_comment_for_each_constant(path):
    lines = path.read_text().splitlines()
    section, found = "", []
    for above, line in zip(["", *lines], lines, strict=False):
        if table := re.match(r"\[(\w+)\]", line):
            section = table[1]
        elif constant := re.match(r"(?:# )?(\w+) =", line):
            found.append((section, constant[1]))
            assert above.startswith("# "), f"{section}.{constant[1]} has no comment"
    assert set(found) <= set(CONSTANTS) and len(found) <= 20 and len(lines) < 60
    assert f"python -m mgcl.config configs/{path.name}" in lines[: lines.index("")][-1]


COMMON = {"masks.generator": "superpixels", "model.backbone": "efficientnet_lite0"}
COMMON |= {"data.image_size": 128, "data.workers": 2, "train.batch_size": 8}
COMMON |= {"train.optimizer": "adam", "train.freeze_backbone": True, "train.loss": "ce+dice"}
COMMON |= {"train.validation": "train_classes"}
COMMON |= {"test.threshold": "calibrated"}
MATCHER = {"masks.generator": "superpixels", "model.backbone": "efficientnet_lite0"}
MATCHER |= {"model.head": "matcher", "data.min_object": 0.02, "data.workers": 2}
MATCHER |= {"train.epochs": 10, "train.episodes_per_epoch": 240, "train.validate_every": 10}
MATCHER |= {"train.optimizer": "adam", "train.lr": 0.03, "train.weight_decay": 0.0}
MATCHER |= {"train.freeze_backbone": True, "train.loss": "ce+dice"}
MATCHER |= {"train.validation": "train_classes", "train.calibration_episodes": 300}
MATCHER |= {"test.threshold": "calibrated", "test.max_episodes": 600}
OTHERS = {
    "own": {"data.benchmark": "own", "data.root": "data/own", "run.name": "own_fold0_seed0"},
    "own_lite": {
        **MATCHER,
        "data.benchmark": "own",
        "data.root": "data/own",
        "run.name": "own_lite_fold0_seed0",
    },
    "isaid_lite_cpu": {
        **MATCHER,
        "run.name": "isaid_lite_cpu_fold0_seed0",
        "model.backbone": "efficientnet_lite0+efficientnet_lite2",
    },
    "demo": {
        **COMMON,
        "run.name": "demo",
        "data.root": "data/demo",
        "model.head": "mgcl+matcher",
        "model.turns": 1,
        "train.epochs": 3,
        "train.episodes_per_epoch": 800,
        "train.batch_size": 4,
        "train.lr": 0.002,
        "train.calibration_episodes": 200,
        "test.must_beat_baselines": True,
        "test.panels": 2,
    },
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_preset_that_is_not_the_papers_differs_from_it_in_this_alone(name):
    held, default = (
        load(["--config", name]).model_dump(mode="json"),
        Config().model_dump(mode="json"),
    )
    found = {
        f"{section}.{key}": held[section][key]
        for section, key in CONSTANTS
        if held[section][key] != default[section][key]
    }
    assert found == OTHERS[name]


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_a_published_preset_is_the_published_recipe(path):
    benchmark, backbone = path.stem.split("_")
    config = load(["--config", str(path)])
    recipe = {
        "isaid": {"optimizer": "sgd", "lr": 1e-2, "epochs": 50},
        "dlrsd": {"optimizer": "adam", "lr": 1e-3, "epochs": 100},
    }[benchmark]
    recipe |= {"momentum": 0.9, "weight_decay": 5e-4, "poly_power": 0.9, "batch_size": 16}
    recipe |= {"episodes_per_epoch": 0, "freeze_backbone": False, "loss": "ce", "seed": 0}
    recipe |= {"validation": "test_fold", "validation_episodes": 0, "validate_every": 1}
    recipe |= {"precision": "float32"}
    data = {"benchmark": benchmark, "image_size": 256, "lists": "published", "holdout": 0}
    data |= {"ignore_label": "background", "min_object": 0}
    model = {"backbone": backbone, "weights": "imagenet"}
    model |= {"mgfe": True, "background": True, "decoder_masks": True}
    masks = {"generator": "sam", "sam_model": "vit_h", "points_per_side": 32}
    masks |= {"pred_iou_thresh": 0.88, "stability_score_thresh": 0.5, "box_nms_thresh": 0.7}
    test = {"threshold": 0.5, "vote_share": 0.4, "shots": [1, 5], "max_episodes": 0}
    wanted = {"train": recipe, "data": data, "model": model, "masks": masks, "test": test}
    held = {
        section: {key: getattr(getattr(config, section), key) for key in values}
        for section, values in wanted.items()
    }
    assert held == wanted


def test_there_are_the_six_published_presets_and_four_others():
    assert {path.stem for path in PRESETS} == {path.stem for path in PUBLISHED} | OTHERS.keys()
    assert len(PUBLISHED) == 6


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_resolved_constants_read_back_as_they_were(path, tmp_path):
    config = load(["--config", str(path), "--data.fold", "1", "--test.episodes", "some.jsonl"])
    again = load_text(tmp_path, to_toml(config))
    assert again == config
    assert tomllib.loads(to_toml(config))["run"]["name"] == config.run.name


@pytest.mark.parametrize("words", [[], ["--markdown"], ["demo"], ["demo", "--data.fold", "2"]])
def test_the_reference_has_every_constant_with_its_meaning(words, capsys):
    assert reference.main(words) == 0
    said = " ".join(re.sub(r"\n# ", "\n", capsys.readouterr().out).replace("\\", "").split())
    for section, key in CONSTANTS:
        meaning = Config.model_fields[section].annotation.model_fields[key].description
        assert key in said and " ".join(meaning.split()) in said


def test_a_printed_experiment_is_readable_back_and_names_no_run(tmp_path, capsys):
    words = ["isaid_vgg16", "--data.fold", "2", "--test.shots", "3,4", "--data.lists_dir", "x y"]
    assert reference.main(words) == 0
    text = capsys.readouterr().out
    again = load_text(tmp_path, text)
    assert again == with_values(load(["--config", *words]), run={"name": "own_fold2_seed0"})
    assert max(map(len, text.splitlines())) <= 100
    assert reference.main(["isaid_vgg", "--data.fold", "2"]) == 2
    assert reference.main(["isaid_vgg16", "--data.fold", "7"]) == 2


def test_replacing_a_value_leaves_the_original_alone():
    config = load(["--config", str(PRESETS[0])])
    other = with_values(config, train={"seed": 4})
    assert (other.train.seed, config.train.seed) == (4, 0)
    assert other.data == config.data


def test_help_shows_every_constant_with_its_meaning(capsys, tmp_path):
    with pytest.raises(SystemExit) as caught:
        load(["--help"], prog="main_1_mgcl_train.py")
    shown = " ".join(capsys.readouterr().out.split())
    assert caught.value.code == 0
    for section, key in CONSTANTS:
        assert f"--{section}.{key} " in shown
        meaning = Config.model_fields[section].annotation.model_fields[key].description
        assert "".join(meaning.split())[:40] in "".join(shown.split()), f"{section}.{key}"


@pytest.mark.parametrize("words", [["--train.seed", "2..4"], ["--train.seed=2..4"]])
def test_a_range_of_seeds_stands_for_several_runs_with_folders_of_their_own(words):
    configs = load_runs_or_exit(words)
    assert [config.train.seed for config in configs] == [2, 3, 4]
    assert len({config.run_dir for config in configs}) == 3
    named = load_runs_or_exit([*words, "--run.name", "mine"])
    assert [config.run.name for config in named] == ["mine_seed2", "mine_seed3", "mine_seed4"]


def test_a_range_of_seeds_that_runs_backwards_is_refused(capsys):
    with pytest.raises(SystemExit) as end:
        load_runs_or_exit(["--train.seed", "4..2"])
    assert end.value.code == 2
    assert "train.seed" in capsys.readouterr().err
