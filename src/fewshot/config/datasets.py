"""Settings of the data sets, one class each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from fewshot.config.base import Seed, Settings, Share


class _Dataset(Settings):
    incidental: ClassVar[frozenset[str]] = frozenset({"raw", "hashes"})  # the store holds the hash of what was found
    source: ClassVar[str]
    """Module of `fewshot.data.sources` that reads it."""
    archives: ClassVar[tuple[str, ...]] = ()
    """File names of its archives, in `raw`."""

    image_size: Annotated[int, Field(ge=8, le=1024)] | None
    """Side of the square images in the store, in pixels."""
    held_out: Share = 1 / 6
    """Share of each base class's images kept out of stage 1, for testing on base classes (0: none)."""
    seed: Seed = 0
    """Seed of the held-out choice and of any drawn split."""
    raw: str = "data/raw"
    """Folder that holds the archives."""
    hashes: dict[str, str] = Field({})
    """Archive file name -> `sha256:...`, `md5:...` or `none` (unchecked; the report says so), in place of the known hash. Makes
    no other store: the images have a hash of their own."""

    @property
    def module(self) -> str:
        """Full name of the source's module."""
        return f"fewshot.data.sources.{self.source}"

    @property
    def paths(self) -> tuple[Path, ...]:
        """Where its images come from: archives, or folders of images; none where they are drawn."""
        return tuple(Path(self.raw) / name for name in self.archives)

    @field_validator("hashes")
    @classmethod
    def _hash_form(cls, value: dict[str, str]) -> dict[str, str]:
        for name, text in value.items():
            kind, _, digits = text.partition(":")
            if text != "none" and (len(digits) != {"sha256": 64, "md5": 32}.get(kind) or set(digits) - set("0123456789abcdef")):
                raise ValueError(
                    f"hash of {name} must be 'sha256:<64 hex digits>', 'md5:<32 hex digits>' or 'none', not {text!r}"
                )
        return value


class GlyphsSettings(_Dataset):
    """Drawn figures: the embedded demonstration set. No archive."""

    source: ClassVar[str] = "glyphs"
    name: Literal["glyphs"]
    image_size: Annotated[int, Field(ge=16, le=256)] = 32
    classes: Annotated[int, Field(ge=8, le=1000)] = 100
    images_per_class: Annotated[int, Field(ge=4, le=10_000)] = 60


class Fc100Settings(_Dataset):
    """CIFAR-100 split by superclass: 60 / 20 / 20 classes (facts: TADAM)."""

    source: ClassVar[str] = "cifar100"
    archives: ClassVar[tuple[str, ...]] = ("cifar-100-python.tar.gz",)
    name: Literal["fc100"]
    image_size: Annotated[int, Field(ge=8, le=1024)] = 32


class CifarFsSettings(_Dataset):
    """CIFAR-100 split at random: 64 / 16 / 20 classes."""

    source: ClassVar[str] = "cifar100"
    archives: ClassVar[tuple[str, ...]] = ("cifar-100-python.tar.gz",)
    name: Literal["cifar_fs"]
    image_size: Annotated[int, Field(ge=8, le=1024)] = 32


class MiniImageNetSettings(_Dataset):
    """miniImageNet with the split of Ravi and Larochelle: 64 / 16 / 20 classes."""

    source: ClassVar[str] = "miniimagenet"
    archives: ClassVar[tuple[str, ...]] = ("miniimagenet.tar",)
    caches: ClassVar[tuple[str, ...]] = tuple(f"mini-imagenet-cache-{part}.pkl" for part in ("train", "val", "test"))
    name: Literal["miniimagenet"]
    image_size: Annotated[int, Field(ge=8, le=1024)] = 84
    layout: Literal["images", "pickles"] = "images"
    """`images`: miniimagenet.tar with images/ and the split csv files; `pickles`: the three mini-imagenet-cache-*.pkl files."""

    @property
    def paths(self) -> tuple[Path, ...]:
        """The archive, the folder it was unpacked into where that is all there is, or the cache files."""
        raw = Path(self.raw)
        if self.layout == "pickles":
            return tuple(raw / name for name in self.caches)
        archive, unpacked = raw / self.archives[0], raw / "miniimagenet"
        return (unpacked,) if unpacked.is_dir() and not archive.exists() else (archive,)


class CubSettings(_Dataset):
    """CUB-200-2011 birds."""

    source: ClassVar[str] = "cub"
    archives: ClassVar[tuple[str, ...]] = ("CUB_200_2011.tgz",)
    name: Literal["cub"]
    image_size: Annotated[int, Field(ge=8, le=1024)] = 84
    split: Literal["few_shot", "halves"] = "few_shot"
    """`few_shot`: 100 / 50 / 50 classes; `halves`: first 100 base, last 100 novel (of a part of the classes, its halves), the
    official test images held out."""
    partial: bool = False
    """Accept an archive that holds only a part of the 200 classes (the report says so)."""


class OmniglotSettings(_Dataset):
    """Omniglot with the split of Vinyals: 1,028 / 172 / 423 characters, each in four rotations as classes of their own."""

    source: ClassVar[str] = "omniglot"
    archives: ClassVar[tuple[str, ...]] = ("images_background.zip", "images_evaluation.zip")
    added: ClassVar[frozenset[str]] = frozenset({"resampling"})
    name: Literal["omniglot"]
    image_size: Annotated[int, Field(ge=8, le=105)] = 28
    rotations: bool = True
    resampling: Literal["bilinear", "nearest"] = "bilinear"
    """How a drawing of 105 pixels is made smaller: `bilinear` (means, so greys), or `nearest`, ink or paper and none between,
    as Snell's code does with these one-bit images (paper 002's too)."""


class FolderSettings(_Dataset):
    """The user's own images: one folder a class."""

    source: ClassVar[str] = "folder"
    added: ClassVar[frozenset[str]] = frozenset({"base_at_least", "test_folder"})
    name: Literal["folder"]
    image_size: Annotated[int, Field(ge=8, le=1024)] | None = None
    """Side of the square images in the store, in pixels; none: the median of the images' shorter sides, 16 to 84."""
    folder: str
    """Folder whose sub-folders are the classes."""
    split: str | None = None
    """CSV file with the columns class,part (part: base, val or test); none: drawn from `shares` and `seed`."""
    base_at_least: Annotated[int, Field(ge=2)] | None = None
    """Classes with at least so many images in `folder` are base, all others test (iNaturalist in paper 001: 100)."""
    test_folder: str | None = None
    """A second folder of the same classes whose images are the held-out ones; none: a share of `folder` is."""
    shares: tuple[float, float, float] = (0.64, 0.16, 0.2)
    """Shares of the classes in base, val and test when the split is drawn."""

    @property
    def paths(self) -> tuple[Path, ...]:
        """The folder, and that of the test images."""
        return tuple(Path(folder) for folder in (self.folder, self.test_folder) if folder)

    @model_validator(mode="after")
    def _one_split(self) -> Self:
        if self.split is not None and self.base_at_least is not None:
            raise ValueError("split and base_at_least both place the classes; give one of them")
        return self

    @field_validator("shares")
    @classmethod
    def _shares_sum(cls, value: tuple[float, float, float]) -> tuple[float, float, float]:
        if min(value) < 0 or abs(sum(value) - 1) > 1e-6:
            raise ValueError("shares must be three non-negative numbers that sum to 1")
        return value


DatasetSettings = Annotated[
    GlyphsSettings | Fc100Settings | CifarFsSettings | MiniImageNetSettings | CubSettings | OmniglotSettings | FolderSettings,
    Field(discriminator="name"),
]
