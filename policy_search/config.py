"""What a command was asked to do: one frozen model per command, saved beside its results."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from policy_search.cells.errors import InputError

# Sentences for what pydantic finds wrong most often, by its names.
_EXPECTED = {
    "greater_than_equal": "expected a number of at least {ge}",
    "less_than_equal": "expected a number of at most {le}",
    "multiple_of": "expected a multiple of {multiple_of}",
    "literal_error": "expected one of {expected}",
    "string_too_short": "expected a text that is not empty",
    "extra_forbidden": "there is no such option",
}


class CommandConfig(BaseModel):
    """What every command's configuration has in common.

    Raises:
        InputError: on construction, naming the option and what it expects.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            first = error.errors()[0]
            option = "--" + str(first["loc"][0]).replace("_", "-") if first["loc"] else "the configuration"
            expected = _EXPECTED.get(first["type"], first["msg"]).format(**first.get("ctx", {}))
            raise InputError(f"{option}: {expected}, found {first['input']!r}") from None

    def identity(self) -> dict[str, Any]:
        """The part that two runs into one folder must have in common, as JSON types."""
        raise NotImplementedError


class RunConfig(CommandConfig):
    """Everything that decides the outcome of `policy-search run`, and where it goes."""

    data: str = Field(description="dataset with the labelled cells, as for --data")
    out: Path = Field(description="run folder")
    root: Path | None = Field(None, description="LIVECell's folder")
    storage: str | None = Field(None, description="Optuna storage URL; study.db in the run folder when None")
    trials: int = Field(20, ge=1, description="complete trials, the naive ones included; others do not count")
    steps: int = Field(200, ge=1, description="steps of the inner search in a searched trial")
    seed: int = Field(0, ge=0, le=2**31 - 1)
    validate_on: tuple[str, ...] = Field(
        (), description="labelled types to score on; when empty, the source under held-back shifts"
    )
    finalists: int = Field(3, ge=1, description="learnt policies scored again in the second round")
    final_seeds: int = Field(5, ge=2, description="fresh seeds of the second round")
    probe_base_steps: int = Field(400, ge=1, description="steps on untouched images that every probe starts from")
    probe_steps: int = Field(120, ge=2, description="steps of a probe under a policy")
    probe_crop: int = Field(128, ge=32, multiple_of=8, description="side of the probe's training crops, pixels")
    max_images: int = Field(16, ge=1, description="images read of each split and cell type, spread over the wells")
    objective: Literal["probe", "bridge", "affinity-diversity", "tradeoff", "ap50"] = Field(
        "probe", description="what policies are scored by"
    )
    target: tuple[str, ...] = Field(
        (), description="types of which images without labels are there: learnt from and, for bridge, scored on"
    )
    recognise_steps: int = Field(
        400, ge=0, description="with target: training of networks that recognise the size of its cells; 0: none"
    )
    target_steps: int = Field(320, ge=12, description="with target: steps of a search in target mode")
    per_transform: bool = Field(False, description="stacks with one probability for each transform, not one for all")
    parallel: int = Field(4, ge=1, description="trials that may run at once: each is planned without the last few")
    study: str | None = Field(None, min_length=1, description="name of the study; `DATA seed N` when None")
    artifacts: Path | None = Field(None, description="folder of the dashboard's pictures; OUT/artifacts when None")
    heartbeat: int = Field(60, ge=1, description="seconds between signs of life to a shared storage")
    weights: Path | None = Field(None, description="base model of `detect pretrain`, for the objective ap50")
    ap50_iterations: int = Field(150, ge=1, description="of a fine-tune, for the objective ap50")

    @model_validator(mode="before")
    @classmethod
    def _labelled_types_are_looked_at(cls, values: dict[str, Any]) -> dict[str, Any]:
        objective = values.get("objective", "probe")
        if values.get("validate_on") and objective not in ("probe", "ap50"):
            raise InputError(
                f"--validate-on: --objective {objective} does not look at labelled types; leave one of both out, or "
                "give --objective probe or ap50"
            )
        return values

    @property
    def study_name(self) -> str:
        """The study's name in its storage."""
        return self.study or f"{self.data} seed {self.seed}"

    @property
    def artifact_folder(self) -> Path:
        """Where the dashboard's pictures go."""
        return self.artifacts or self.out / "artifacts"

    def identity(self) -> dict[str, Any]:
        """The part that two runs into one folder must have in common: what a finished trial depends on.

        Where data and results lie does not matter (the data's fingerprint is compared instead), nor how far the run
        is to go: a run may be continued with more trials or a longer second round.
        """
        where_and_how_far = {
            "out", "root", "storage", "trials", "finalists", "final_seeds", "study", "artifacts", "heartbeat",
            "weights",
        }  # fmt: skip
        return self.model_dump(mode="json", exclude=where_and_how_far)


class SearchConfig(CommandConfig):
    """Everything that decides the outcome of `policy-search search`, and where it goes.

    The defaults that the engine has too (`relaxed.SearchSettings`, `relaxed.TargetSettings`) are the same there.
    """

    command: Literal["search"] = "search"
    data: str = Field(description="dataset with the labelled cells, as for --data")
    out: Path = Field(description="run folder")
    target: tuple[str, ...] = Field((), description="types whose images are to be matched; none: source mode")
    root: Path | None = Field(None, description="LIVECell's folder")
    steps: int | None = Field(None, ge=1, description="gradient steps; the engine's own for the mode when None")
    seed: int = Field(0, ge=0, le=2**31 - 1)
    sub_policies: int = Field(8, ge=1)
    device: Literal["cpu", "cuda"] = "cpu"
    recognise_steps: int = Field(
        400, ge=0, description="training of networks that recognise the size of a target's cells; 0: by statistics"
    )
    operations: tuple[str, ...] = Field((), description="names in the catalogue; all when empty")
    crop: int = Field(128, ge=32, multiple_of=2, description="side of what the critic sees, pixels")
    batch: int = Field(8, ge=2, multiple_of=2, description="augmented images a step, and as many real ones")
    max_images: int = Field(16, ge=1, description="images read of each cell type, spread over the wells")
    checkpoint_every: int = Field(25, ge=1, description="steps that a killed run may lose")

    def identity(self) -> dict[str, Any]:
        """The part that decides the policy: all but where data and results lie, and how often the state is saved."""
        return self.model_dump(mode="json", exclude={"out", "root", "checkpoint_every"})


class MorphologyConfig(CommandConfig):
    """What `policy-search data morphology` measures, and where it goes."""

    command: Literal["data morphology"] = "data morphology"
    data: tuple[str, ...] = Field(min_length=1, description="data sets side by side, as for --data")
    out: Path | None = Field(None, description="figure, with a CSV and a JSON beside it; None: the tables only")
    root: Path | None = Field(None, description="LIVECell's folder")
    split: Literal["train", "val", "test"] | None = Field(None, description="every labelled split when None")
    source: str | None = Field(None, min_length=1, description="type that the others are compared with")
    whole: bool = Field(False, description="without cells that the image's border cuts")
    vertices: bool = Field(False, description="count the vertices of the annotated polygons too")

    def identity(self) -> dict[str, Any]:
        """The part that decides the numbers: all but where data and results lie."""
        return self.model_dump(mode="json", exclude={"out", "root"})


class ImportConfig(CommandConfig):
    """What `policy-search data import` takes, how it reads it, and where the COCO file goes."""

    command: Literal["data import"] = "data import"
    folder: Path = Field(description="folder with images and label images, or with COCO files; or one COCO file")
    out: Path = Field(description="COCO file to write; with fractions the stem of one for each split")
    page: int | None = Field(None, ge=1, description="plane of multi-page files, from 1")
    channel: int | None = Field(None, ge=1, description="channel of files with several, from 1")
    type: str | None = Field(None, min_length=1, description="cell type of all images; by folder or name when None")
    well: str | None = Field(None, min_length=1, description="regular expression with one group, or `folder`")
    split: tuple[float, ...] | None = Field(None, description="shares of train, val and test; one file when None")
    seed: int = Field(0, ge=0, le=2**31 - 1, description="decides which wells go into which split")
    images: str | None = Field(None, min_length=1, description="pattern of image names; by rule when None")
    labels: str | None = Field(None, min_length=1, description="pattern of label-image names; by rule when None")
    split_components: bool = Field(False, description="masks with one value: each connected part is a cell")
    keep_unlabelled: bool = Field(False, description="images without a label image are taken as unlabelled")
    force: bool = Field(False, description="replace what is there")

    @model_validator(mode="after")
    def _usable(self) -> ImportConfig:
        if self.out.suffix.lower() != ".json":
            raise InputError(f"--out: expected the name of a .json file, found {str(self.out)!r}")
        word = next((w for w in ("train", "val", "test") if w in self.out.stem.lower()), None)
        if word is not None:
            raise InputError(
                f"--out: the name {self.out.name!r} holds {word!r}, so that --data would take the file for one split "
                "of several; choose a name without train, val and test"
            )
        if self.split is not None and not (
            len(self.split) == 3 and all(0 <= s <= 1 for s in self.split) and abs(sum(self.split) - 1) < 1e-6
        ):
            raise InputError(f"--split: expected three shares that sum up to 1, as 0.7,0.15,0.15, found {self.split}")
        if self.well is not None and self.well != "folder":
            try:
                groups = re.compile(self.well).groups
            except re.error as error:
                raise InputError(f"--well: {self.well!r} is no regular expression ({error})") from None
            if groups != 1:
                raise InputError(f"--well: expected one group in ( ), found {groups} in {self.well!r}")
        return self

    def identity(self) -> dict[str, Any]:
        """The part that decides the content: all but where it lies. Saved in the COCO file under `info`."""
        return self.model_dump(mode="json", exclude={"folder", "out", "force"})
