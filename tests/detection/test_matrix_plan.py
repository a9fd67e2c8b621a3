"""Experiment files and what they are planned as; nothing is run."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from detection.local_engine import words_here
from detection.matrices.file import data_name, fill_in, options_of, read_experiment
from detection.matrices.ledger import chosen
from detection.matrices.options import check_options, finetune_config, option_words
from detection.matrices.plan import Place, make_plan
from detection.matrix import MatrixConfig, prepare
from policy_search.augment import load_policy
from policy_search.cells.errors import InputError

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
FILES = ("table1", "table2", "leave_one_out", "expansion", "unfrozen")
TEXT = """
title = "T"
reference = "none"
seeds = [0, 1, 2]
[searches.near]
steps = 20
target = "{unseen}"
[finetune]
lr = 0.001
iterations = 7
[[rows]]
label = "none"
policy = "none"
[[rows]]
label = "flip 5x"
policy = "flip"
paper = "flip"
finetune = { factor = 5, iterations = 8 }
[[rows]]
label = "own"
policy = "own.json"
[[rows]]
label = "near"
policy = "search:near"
[scales.demo]
sources = ["demo/A172", "demo/all but BV2"]
pretrain = { iterations = 3, flip = true }
finetune = { iterations = 5 }
searches.near = { steps = 12 }
"""


class Named:
    """Facts without data: digests of names."""

    def data(self, name: str) -> str:
        return "images of " + name

    def weights(self, path: Path) -> str:
        return "weights " + path.name

    def policy(self, policy: str) -> str:
        return "policy " + Path(policy).name

    def is_strategy(self, policy: str) -> bool:
        return policy in ("none", "flip")


def written(tmp_path, text=TEXT, name="e.toml"):
    path = tmp_path / name
    path.write_text(text)
    return path


def plan_of(path, scale="demo", facts=None, **place):
    return make_plan(read_experiment(path), path, scale, Place(Path("W"), **place), facts or Named())


def test_a_plan_has_each_row_source_and_seed_once_and_only_the_steps_that_they_need(tmp_path):
    plan = plan_of(written(tmp_path))
    keys = [(cell.row.label, cell.source, cell.seed) for cell in plan.cells]
    rest = "demo/A172,BT474,HUH7,MCF7,SHSY5Y,SKBR3,SKOV3"
    assert keys == [
        (label, source, seed)
        for label in ("none", "flip 5x", "own", "near")
        for source in ("demo/A172", rest)
        for seed in (0, 1, 2)
    ]
    assert [step.kind for step in plan.steps].count("base") == 6  # 2 sources x 3 seeds
    assert [step.kind for step in plan.steps].count("search") == 6
    assert len({step.task.out for step in plan.steps}) == 12
    assert len({cell.task.out for cell in plan.cells}) == 24
    by_key = dict(zip(keys, plan.cells, strict=True))
    assert [step.kind for step in by_key["near", "demo/A172", 1].needs] == ["base", "search"]
    assert [step.kind for step in by_key["own", "demo/A172", 1].needs] == ["base"]


def test_commands_are_what_a_person_would_type(tmp_path):
    plan = plan_of(written(tmp_path), root=Path("R"))
    cell = next(c for c in plan.cells if c.row.label == "flip 5x" and c.seed == 1)
    base = plan.steps[1].task
    assert words_here(base) == (
        f"detect pretrain --data demo/A172 --root R --seed 1 --iterations 3 --flip --out {base.out}".split()
    )
    out = cell.task.out
    assert (
        words_here(cell.task)
        == (
            f"detect finetune --policy flip --data demo/A172 --weights {base.out}/model.pth --eval all --root R "
            f"--seed 1 --lr 0.001 --iterations 8 --factor 5 --results {out}/results.sqlite --out {out}"
        ).split()
    )
    near = next(c for c in plan.cells if c.row.label == "near")
    search = near.needs[1].task
    assert (
        words_here(search)
        == (
            "policy-search search --data demo/A172 --root R --seed 0 --steps 12 "
            f"--target BT474,BV2,HUH7,MCF7,SHSY5Y,SKBR3,SKOV3 --out {search.out}"
        ).split()
    )
    assert words_here(near.task)[3] == f"{search.out}/policy.json"
    assert near.task.inputs == (near.needs[0].result, search.out / "policy.json")
    own = next(c for c in plan.cells if c.row.label == "own")
    assert words_here(own.task)[3] == str(tmp_path / "own.json")


def test_a_base_model_that_validates_gives_its_best_weights(tmp_path):
    text = TEXT.replace("iterations = 3, flip", 'validate_on = "demo/A172", iterations = 3, flip')
    step = plan_of(written(tmp_path, text)).steps[0]
    assert step.result.name == "best.pth"
    assert step.task.outputs == ("best.pth", "model.pth")


def test_folders_depend_on_what_decides_a_result_and_on_nothing_else(tmp_path):
    def folders(text=TEXT, **options):
        return [cell.task.out for cell in plan_of(written(tmp_path, text), **options).cells]

    before = folders()
    assert folders(root=Path("elsewhere")) == before
    assert folders(TEXT.replace("lr = 0.001", "lr = 0.001\nworkers = 2\nsave_every = 5\nunfreeze = false")) == before
    assert folders(TEXT.replace('label = "own"', 'label = "mine"')) == before
    for changed in (
        TEXT.replace("lr = 0.001", "lr = 0.002"),
        TEXT.replace("pretrain = { iterations = 3", "pretrain = { iterations = 4"),
        TEXT.replace('sources = ["demo/A172", ', 'eval = "BT474"\nsources = ["demo/A172", '),
    ):
        assert not set(folders(changed)) & set(before)
    steps = folders(TEXT.replace("searches.near = { steps = 12 }", "searches.near = { steps = 13 }"))
    assert [a == b for a, b in zip(steps, before, strict=True)] == [True] * 18 + [False] * 6
    given = folders(weights=Path("x/a.pth"))
    assert not set(given) & set(before)
    assert given == folders(weights=Path("y/a.pth"))

    class OtherImages(Named):
        def data(self, name: str) -> str:
            return "other images of " + name

    assert not set(folders(facts=OtherImages())) & set(before)


def test_digests_are_the_same_on_every_machine(tmp_path):
    names = [str(cell.task.out) for cell in plan_of(written(tmp_path)).cells]
    assert hashlib.sha256("\n".join(names).encode()).hexdigest()[:16] == STABLE


STABLE = "0cbf3472c2deb45d"


def test_experiments_share_what_they_have_in_common():
    plans = [prepare(MatrixConfig(experiment=EXPERIMENTS / f"{name}.toml")).plan for name in ("table1", "unfrozen")]
    first, second = ({cell.task.out: cell.row.label for cell in plan.cells} for plan in plans)
    shared = {(first[out], second[out]) for out in first.keys() & second.keys()}
    assert shared == {("none", "none, frozen")}
    assert len(first.keys() & second.keys()) == 3
    bases = [{step.task.out for step in plan.steps if step.kind == "base"} for plan in plans]
    assert bases[0] == bases[1]
    assert len(bases[0]) == 3


@pytest.mark.parametrize("name", FILES)
def test_the_experiments_of_this_project_can_be_planned_at_every_scale(name, tmp_path):
    path = EXPERIMENTS / f"{name}.toml"
    experiment = read_experiment(path)
    for where, command, options in options_of(experiment, path):
        check_options(where, command, options)
    assert list(experiment.scales) == ["demo", "livecell-mini", "usiigaci", "livecell"]

    class Strategies(Named):
        def is_strategy(self, policy: str) -> bool:
            return policy in STRATEGIES

    from policy_search.augment import BASELINES as STRATEGIES

    for scale in experiment.scales:
        weights = Path("w.pth") if scale == "livecell" else None
        plan = plan_of(path, scale, Strategies(), weights=weights)
        rows, sources = len(experiment.rows_at(scale)), len(experiment.scales[scale].sources)
        assert len(plan.cells) == rows * sources * 3
        # No two rows are the same run under two names.
        assert len({cell.task.out for cell in plan.cells}) == len(plan.cells)
        for cell in plan.cells:
            eval_ = cell.task.words[cell.task.words.index("--eval") + 1]
            assert eval_ == "all" if name != "leave_one_out" else eval_ not in cell.source


def test_paper_columns_are_those_of_the_papers_tables():
    table1, table2 = (read_experiment(EXPERIMENTS / f"{name}.toml") for name in ("table1", "table2"))
    columns = [row.paper for row in table1.rows]
    assert columns == [
        "none", "lateral_stretch", "flip", "simple_copy_paste", "scaled_copy_paste", "crop", "color_jitter"
    ]  # fmt: skip
    assert columns == [row.policy for row in table1.rows]
    assert [row.paper for row in table2.rows] == [
        "none", "stacked_p0.5", "stacked_p0.8", "random_choice", "autoalbument", None, None
    ]  # fmt: skip


def test_sources_and_what_is_unseen():
    types = ("A172", "BT474", "BV2")
    assert data_name("demo/all but BT474", types) == "demo/A172,BV2"
    assert data_name("all but a172", types) == "BT474,BV2"
    assert data_name("A172,BV2", types) == "A172,BV2"
    assert fill_in("{unseen}", "demo/A172", types) == "BT474,BV2"
    assert fill_in("{unseen}", "all but BT474", types) == "BT474"
    assert fill_in("{source};{unseen}", "A172,BV2", types) == "A172,BV2;BT474"
    assert fill_in(3, "A172", types) == 3


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("seeds = [0, 1, 2]", "seed = [0]", "unknown key 'seed'; did you mean 'seeds'?"),
        ('paper = "flip"', 'papr = "flip"', "unknown key 'rows[2].papr'; did you mean 'paper'?"),
        ("pretrain = { it", "pretrian = { it", "unknown key 'scales.demo.pretrian'; did you mean 'pretrain'?"),
        ("factor = 5", "factr = 5", "finetune of row 'flip 5x': unknown option 'factr'; did you mean 'factor'?"),
        ("steps = 20", "stepz = 20", "[searches.near]: unknown option 'stepz'; did you mean 'steps'?"),
        ("lr = 0.001", 'lr = "fast"', "[finetune]: Invalid value for '--lr'"),
        ("lr = 0.001", "lr = true", "[finetune]: lr: expected a text or a number, found True"),
        ("lr = 0.001", 'lr = ["a"]', "[finetune]: lr: expected one value, found ['a']"),
        (
            "lr = 0.001",
            "lr = [0.1]",
            "finetune.lr: expected a text, a number, true or false, or a list of texts, found [0.1]",
        ),
        ("factor = 5", "factor = { x = 5 }", "rows[2].finetune.factor: expected a text, a number, true or false"),
        ("flip = true", "flip = 1", "pretrain of [scales.demo]: flip: expected true or false, found 1"),
        ("lr = 0.001", "seed = 1", "[finetune]: 'seed' is given by the matrix itself"),
        ("lr = 0.001", 'results = "x"', "[finetune]: 'results' is given by the matrix itself"),
        ("searches.near = {", "searches.nere = {", "names the search 'nere'; did you mean 'near'?"),
        ('"search:near"', '"search:nea"', "names the search 'nea'; did you mean 'near'?"),
        ('label = "own"', 'label = "none"', "two rows are called 'none'"),
        ('reference = "none"', 'reference = "nine"', "reference 'nine' is no row at scale demo; did you mean 'none'?"),
        ("seeds = [0, 1, 2]", "seeds = [0, 0]", "expected different ones, found [0, 0]"),
        ("seeds = [0, 1, 2]", "seeds = [0, -1]", "expected 0 or more, found -1"),
        ("seeds = [0, 1, 2]", 'seeds = ["a"]', "seeds[1]: "),
        ('policy = "own.json"', "", "row 'own' has no policy at scale demo"),
        ('policy = "own.json"', 'scales = ["dmo"]', "names scale 'dmo'; did you mean 'demo'?"),
        ("all but BV2", "all but BV3", "leaves out no type of the scale; did you mean 'BV2'?"),
        ("flip = true }", 'flip = true }\nweights = "w.pth"', "has both pretrain and weights"),
        ("flip = true }", 'flip = true }\npolicies.onw = "flip"', "names a policy for row 'onw'; did you mean 'own'?"),
        ("pretrain = { iterations = 3, flip = true }", "", "scale demo trains no base model: give one with --weights"),
        ('title = "T"', 'title = "T', "is not TOML"),
        ('title = "T"', 'title = "T"\nbase = "other.toml"', "cannot read experiment file"),
        ('title = "T"', 'title = "T"\nbase = 3', "base: expected the name of a file, found 3"),
        ('title = "T"', "", "title: Field required"),
        ('"own.json"', '"own.json"', "no policy file"),
    ],
)
def test_a_mistake_is_one_sentence_with_file_key_and_remedy(tmp_path, before, after, message):
    assert TEXT.count(before) == 1 or before == "iterations = 3"
    path = written(tmp_path, TEXT.replace(before, after))
    with pytest.raises(InputError) as error:
        prepare(MatrixConfig(experiment=path))
    assert message in str(error.value)
    assert "e.toml" in str(error.value) or "own.json" in str(error.value) or "other.toml" in str(error.value)
    assert "\n" not in str(error.value)


def test_unknown_scale_and_row_name_what_there_is(tmp_path):
    load_policy("flip").save(tmp_path / "own.json")
    path = written(tmp_path)
    with pytest.raises(InputError, match="has no scale 'dem'; did you mean 'demo'"):
        prepare(MatrixConfig(experiment=path, scale="dem"))
    with pytest.raises(InputError, match="--only flop: there is no such row at this scale, only none, flip 5x"):
        prepare(MatrixConfig(experiment=path, only=("flop",)))
    with pytest.raises(InputError, match=r"no base model at missing\.pth: .*--weights"):
        prepare(MatrixConfig(experiment=path, weights=Path("missing.pth")))


def test_a_row_of_other_scales_is_left_out_and_a_scale_may_have_its_own_policy(tmp_path):
    text = TEXT.replace('policy = "own.json"', 'policy = "none"\nscales = ["other"]')
    text += '[scales.other]\nsources = ["demo/A172"]\nweights = "w.pth"\npolicies = { "flip 5x" = "mine.json" }\n'
    path = written(tmp_path, text)
    assert [cell.row.label for cell in plan_of(path).cells if cell.seed == 0][::2] == ["none", "flip 5x", "near"]
    other = plan_of(path, "other")
    assert [cell.row.label for cell in other.cells if cell.seed == 0] == ["none", "flip 5x", "own", "near"]
    cell = other.cells[3]
    assert cell.policy == "mine.json"
    assert words_here(cell.task)[3] == str(tmp_path / "mine.json")
    assert cell.task.inputs == (tmp_path / "w.pth", tmp_path / "mine.json")
    assert plan_of(path, "other", weights=Path("v.pth")).cells[0].task.inputs == (Path("v.pth"),)


def test_a_file_over_a_base_sets_values_of_tables_one_by_one(tmp_path):
    written(tmp_path)
    path = written(
        tmp_path, 'base = "e.toml"\ntitle = "U"\n[scales.demo]\nsources = ["demo/BV2"]\n[finetune]\nlr = 0.5', "u.toml"
    )
    experiment = read_experiment(path)
    assert experiment.title == "U"
    assert experiment.scales["demo"].sources == ("demo/BV2",)
    assert experiment.scales["demo"].pretrain == {"iterations": 3, "flip": True}
    assert experiment.finetune == {"lr": 0.5, "iterations": 7}
    assert [row.label for row in experiment.rows] == ["none", "flip 5x", "own", "near"]


def test_runs_go_seed_by_seed_and_only_where_wanted(tmp_path):
    plan = plan_of(written(tmp_path))
    order = [(cell.seed, cell.row.label) for cell in chosen(plan, ()) if cell.source == "demo/A172"]
    assert order == [(seed, label) for seed in (0, 1, 2) for label in ("none", "flip 5x", "own", "near")]
    assert {cell.row.label for cell in chosen(plan, ("own", "near"))} == {"own", "near"}
    assert len(chosen(plan, ("own",))) == 6


def test_types_to_test_on_can_be_given_in_place_of_the_scales(tmp_path):
    path = written(tmp_path, TEXT.replace('sources = ["demo/A172"', 'eval = "{unseen}"\nsources = ["demo/A172"'))

    def tested(cell):
        return cell.task.words[cell.task.words.index("--eval") + 1]

    assert tested(plan_of(path).cells[-1]) == "BV2"
    given = plan_of(path, eval="all,x.json")
    assert {tested(cell) for cell in given.cells} == {"all,x.json"}
    assert not {c.task.out for c in given.cells} & {c.task.out for c in plan_of(path).cells}
    assert {s.task.out for s in given.steps} == {s.task.out for s in plan_of(path).steps}


def test_gpus_are_for_what_runs_on_them(tmp_path):
    text = TEXT.replace("finetune = { iterations = 5 }", "gpus = 0.5")
    plan = plan_of(written(tmp_path, text))
    assert {cell.task.gpus for cell in plan.cells} == {0.5}
    assert {(step.kind, step.task.gpus) for step in plan.steps} == {("base", 0.5), ("search", 0.0)}
    text = text.replace("steps = 20", 'steps = 20\ndevice = "cuda"')
    assert {step.task.gpus for step in plan_of(written(tmp_path, text), gpus=1.0).steps} == {1.0}


def test_option_words_and_the_configuration_that_they_make(tmp_path):
    options = {"lr": 0.1, "unfreeze": True, "keep_detections": False, "allow": ["shape", "missing"], "save_every": 5}
    assert option_words(options) == [
        "--lr",
        "0.1",
        "--unfreeze",
        "--allow",
        "shape",
        "--allow",
        "missing",
        "--save-every",
        "5",
    ]
    check_options("here", "finetune", options)
    with pytest.raises(InputError, match=r"no weights at .*missing\.pth"):
        finetune_config(["--policy", "flip", "--data", "demo/A172", "--weights", str(tmp_path / "missing.pth")])
