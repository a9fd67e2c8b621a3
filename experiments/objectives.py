"""How well does each objective of `policy-search run` rank policies? Against a real fine-tune, on unseen types.

    python experiments/objectives.py --out OUT --record

On the synthetic culture: A172 is the source. The truth about a policy is a real `detect finetune` under it, tested by
mask AP50 on val images of all unseen types; no test split is read. Each objective is built as the command builds it and
scores the same policies at the same seeds. A seed has its own base model, its own fine-tunes and its own probes.

The fine-tune of the truth is also tested on the source's val images under the held-back shifts: that is what the
objective `ap50` scores by, so it needs no fine-tune of its own here. As both come from one fine-tune, the report sets
the score of a seed against the truth of the other seeds.

Every (objective, policy, seed) is a file in OUT/cells, every searched policy one in OUT/policies: the command can be
ended at any time and started again, and does what is missing. `--report` only makes the tables of what is there.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
sys.path.insert(0, str(Path(__file__).resolve().parent))
from objectives_report import report
from steps import commit, environment, write_result

from policy_search.augment import BASELINES, SINGLE_STRATEGIES, PolicyDocument, baseline, choice, load_policy, stacked
from policy_search.cells.files import write_json
from policy_search.config import RunConfig, SearchConfig
from policy_search.relaxed.threads import one_thread
from policy_search.search_run import run_search
from policy_search.study.affinity import AffinityDiversityObjective
from policy_search.study.ap50 import Ap50Objective, Ap50Settings
from policy_search.study.ap50_files import evenly
from policy_search.study.bridge import BridgeObjective
from policy_search.study.data import StudyData, load_study_data
from policy_search.study.learning import learn_policy
from policy_search.study.objectives import build_objective
from policy_search.study.objectives_probe import ProbeObjective
from policy_search.study.probe import Domain, ProbeSample
from policy_search.study.space import Knobs
from policy_search.study.splits import grey, read_split, spread_over_wells
from policy_search.study.trivial import NAME as TRIVIAL
from policy_search.study.trivial import trivial_augment

DATA = "demo/A172"
TYPES = ("BT474", "BV2", "HUH7", "MCF7", "SHSY5Y", "SKBR3", "SKOV3")
TRUTH_IMAGES = 3  # of every unseen type's val split
SEEDS = 3
PRICED = ("none", "random_choice")  # policies that the objective ap50 scores alone, to see what it costs
CONFIG = RunConfig(data=DATA, out=Path("unused"), target=TYPES)


def policies(data: StudyData, folder: Path) -> dict[str, Callable[[], PolicyDocument]]:
    """Name → how to get it. Searches are made once and kept in `folder`."""

    def kept(name: str, make: Callable[[], PolicyDocument]) -> Callable[[], PolicyDocument]:
        def get() -> PolicyDocument:
            file = folder / f"{name}.json"
            if not file.is_file():
                started = time.process_time()
                document = make()
                spent = round(time.process_time() - started, 1)
                document.with_provenance(name=name, search_cpu_s=spent).save(file)
            return load_policy(file)

        return get

    def target() -> PolicyDocument:
        found = run_search(SearchConfig(data=DATA, target=TYPES, out=folder / "target"))
        if found.document is None:
            raise SystemExit("the search was stopped: start again to go on")
        return found.document

    wide = Knobs(sub_policies=4, distance=6.0, floor=0.2, variety=0.3)
    crop_and_colour = {"crop": 1.0, "color_jitter": 1.0}
    assert set(crop_and_colour) <= set(SINGLE_STRATEGIES)
    return {
        **{name: (lambda name=name: baseline(name)) for name in BASELINES},  # type: ignore[misc]
        TRIVIAL: trivial_augment,
        "searched": kept("searched", lambda: learn_policy(data.train, Knobs(), steps=200, seed=0).document),
        "searched_wide": kept("searched_wide", lambda: learn_policy(data.train, wide, steps=200, seed=0).document),
        "searched_target": kept("searched_target", target),
        "stacked_p0.2": lambda: stacked(0.2),
        "choice_crop_color": lambda: choice(crop_and_colour),
    }


class Judges:
    """All objectives, and the truth, on one set of data."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.data = load_study_data(DATA, root=None, target=TYPES)
        self.unseen = tuple(_val_domain(name) for name in TYPES)
        few = tuple(Domain(d.name, evenly(d.samples, Ap50Settings().images)) for d in self.data.domains)
        self.both = replace(self.data, domains=(*few, *self.unseen))
        self.probe = build_objective(CONFIG, self.data)
        self.bridge = build_objective(CONFIG.model_copy(update={"objective": "bridge"}), self.data)
        assert isinstance(self.probe, ProbeObjective)
        assert isinstance(self.bridge, BridgeObjective)
        # The probe with --validate-on: labels of the unseen types, which the others do without.
        labelled = load_study_data(DATA, root=None, validate_on=[f"demo/{name}" for name in TYPES])
        self.labelled = ProbeObjective(labelled, self.probe.settings, _bases=self.probe._bases)
        self.affinity = AffinityDiversityObjective(self.probe)  # as the command builds it, with the starts in common

    def tuned(self, seed: int) -> Ap50Objective:
        """The real fine-tune, tested on the shifted source and on unseen types."""
        settings = Ap50Settings(base_seed=seed, images=max(TRUTH_IMAGES, Ap50Settings().images))
        return Ap50Objective(self.both, self.out / "ap50", settings=settings)

    def truth(self, document: PolicyDocument, seed: int) -> dict[str, Any]:
        """Fine-tune and test."""
        objective = self.tuned(seed)
        objective.prepare()
        spent = Clock()
        found = objective.score(document, seed=seed).domains
        names = {domain.name for domain in self.unseen}
        unseen = {name: value for name, value in found.items() if name in names}
        shifts = {name: value for name, value in found.items() if name not in names}
        return {"cpu_s": spent(), "unseen": unseen, "shifts": shifts}

    def price(self, document: PolicyDocument, seed: int) -> dict[str, Any]:
        """The objective ap50 alone, on the same base model: for what it costs."""
        _, base = self.tuned(seed).prepare()
        objective = Ap50Objective(self.data, self.out / "ap50", base)
        objective.prepare()
        spent = Clock()
        score = objective.score(document, seed=seed)
        return {"cpu_s": spent(), "value": score.value, "domains": dict(score.domains)}

    def probed(self, document: PolicyDocument, seed: int) -> dict[str, Any]:
        """The probe, with what it reports on the way."""
        start = Clock()
        self.probe.prepare(seed)
        prepared, spent, checks = start(), Clock(), {}
        score = self.probe.probe(document, seed=seed, report=lambda share, value: checks.update({str(share): value}))
        ap50 = sum(score.ap50.values()) / len(score.ap50)
        return {"prepare_cpu_s": prepared, "cpu_s": spent(), "value": score.value, "ap50": ap50, "checks": checks}

    def validated(self, document: PolicyDocument, seed: int) -> dict[str, Any]:
        """The probe on labelled images of the unseen types."""
        self.probe.prepare(seed)
        spent = Clock()
        score = self.labelled.probe(document, seed=seed)
        ap50 = sum(score.ap50.values()) / len(score.ap50)
        return {"cpu_s": spent(), "value": score.value, "ap50": ap50, "domains": dict(score.domains)}

    def bridged(self, document: PolicyDocument, seed: int) -> dict[str, Any]:
        """Distance to the unlabelled images of all unseen types."""
        start = Clock()
        self.bridge.prepare(seed)
        prepared, spent, checks = start(), Clock(), {}
        score = self.bridge.score(document, seed=seed, report=lambda share, value: checks.update({str(share): value}))
        return {
            "prepare_cpu_s": prepared, "cpu_s": spent(), "value": score.value, "domains": dict(score.domains),
            "checks": checks,
        }  # fmt: skip

    def affine(self, document: PolicyDocument, seed: int) -> dict[str, Any]:
        """Affinity and diversity."""
        self.probe.prepare(seed)
        start = Clock()
        clean, _ = self.affinity.prepare(seed)
        prepared, spent = start(), Clock()
        affinity, diversity = self.affinity.score(document, seed=seed).values
        return {
            "prepare_cpu_s": prepared, "cpu_s": spent(), "affinity": affinity, "diversity": diversity, "clean": clean,
        }  # fmt: skip

    def kinds(self) -> dict[str, Callable[[PolicyDocument, int], dict[str, Any]]]:
        """What there is to measure, the cheap first."""
        return {
            "bridge": self.bridged,
            "affinity-diversity": self.affine,
            "probe": self.probed,
            "truth": self.truth,
            "ap50": self.price,
            "validate-on": self.validated,
        }


class Clock:
    """CPU seconds, of finished child processes too, since it was made."""

    def __init__(self) -> None:
        self.start = self.now()

    @staticmethod
    def now() -> float:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return time.process_time() + children.ru_utime + children.ru_stime

    def __call__(self) -> float:
        return round(self.now() - self.start, 2)


def _val_domain(name: str) -> Domain:
    dataset = read_split(f"demo/{name}", "val", None)
    records = spread_over_wells(dataset.records, TRUTH_IMAGES)
    samples = [ProbeSample(r.id, grey(dataset.image(r)), dataset.instances(r)) for r in records]
    return Domain(name, tuple(samples))


def run(judges: Judges, out: Path, seeds: int) -> None:
    """Everything that is missing, seed by seed."""
    wanted = policies(judges.data, out / "policies")
    for seed in range(seeds):
        for name, get in wanted.items():
            document = get()
            for kind, measure in judges.kinds().items():
                if kind == "ap50" and (seed > 0 or name not in PRICED):
                    continue
                file = out / "cells" / kind / f"{name}-{seed}.json"
                same = {"fingerprint": judges.data.fingerprint, "hash": document.content_hash}
                if file.is_file() and all(json.loads(file.read_text()).get(k) == v for k, v in same.items()):
                    continue
                at = commit()  # of the code that is loaded, before the long work
                facts = measure(document, seed)
                write_json(file, {"kind": kind, "policy": name, "seed": seed, "commit": at, **same, **facts})
                print(f"seed {seed}, {name}, {kind}: {facts['cpu_s']:.1f} CPU s", flush=True)


def cells(out: Path, seeds: int) -> list[dict[str, Any]]:
    """Every file of these seeds that is there."""
    found = [json.loads(file.read_text()) for file in sorted((out / "cells").glob("*/*.json"))]
    return [cell for cell in found if cell["seed"] < seeds]


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, type=Path, help="folder of the journal; a second start goes on in it")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--note", type=Path, help="a file with remarks for the end of the result")
    parser.add_argument("--record", action="store_true", help="write experiments/results/objectives.*")
    parser.add_argument("--report", action="store_true", help="tables of what is there, without running anything")
    options = parser.parse_args(arguments)
    with one_thread():
        judges = Judges(options.out)
        if not options.report:
            run(judges, options.out, options.seeds)
    data = judges.data
    facts = {
        **environment(threads=1),
        "commit": commit(),
        "command": f"python experiments/objectives.py --out OUT --seeds {options.seeds} --record",
        "data": DATA,
        "synthetic": data.synthetic,
        "fingerprint": data.fingerprint,
        "train_images": len(data.train),
        "shifts": {d.name: len(evenly(d.samples, Ap50Settings().images)) for d in data.domains},
        "truth_images": {d.name: len(d.samples) for d in judges.unseen},
        "truth_cells": {d.name: sum(len(s.instances) for s in d.samples) for d in judges.unseen},
        "target_images": {name: len(images) for name, images in data.targets.items()},
        "iterations": Ap50Settings().iterations,
        "base_iterations": Ap50Settings().base_iterations,
        "cells": cells(options.out, options.seeds),
    }
    if options.note is not None:
        facts["note"] = options.note.read_text().strip()
    text = report(facts)
    (options.out / "objectives.md").write_text(text)
    print(text)
    if options.record:
        write_result("objectives", text, facts)


if __name__ == "__main__":
    main()
