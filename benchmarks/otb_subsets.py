"""The sequences of OTB-2013, OTB-50 and OTB-2015: folders of one dataset, chosen by `--layout`.

Source: the lists of the benchmark's site (Wu et al., CVPR 2013 and TPAMI 2015), as the got10k toolkit repeats them.
Jogging and Skating2 have two targets: 51, 50 and 100 sequences.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

IN_BOTH = {
    "Basketball", "Bolt", "Car4", "CarDark", "CarScale", "Couple", "David", "Deer", "Dudek", "Football",
    "Freeman4", "Girl", "Ironman", "Jumping", "Liquor", "Matrix", "MotorRolling", "Shaking", "Singer2", "Skating1",
    "Skiing", "Soccer", "Sylvester", "Tiger2", "Trellis", "Walking", "Walking2", "Woman",
}  # fmt: skip
ONLY_2013 = {
    "Boy", "Coke", "Crossing", "David2", "David3", "Dog1", "Doll", "FaceOcc1", "FaceOcc2", "Fish", "FleetFace",
    "Football1", "Freeman1", "Freeman3", "Jogging", "Lemming", "Mhyang", "MountainBike", "Singer1", "Subway",
    "Suv", "Tiger1",
}  # fmt: skip
ONLY_50 = {
    "Biker", "Bird1", "BlurBody", "BlurCar2", "BlurFace", "BlurOwl", "Box", "Car1", "ClifBar", "Crowds", "Diving",
    "DragonBaby", "Human3", "Human4", "Human6", "Human9", "Jump", "Panda", "RedTeam", "Skating2", "Surfer",
}  # fmt: skip
IN_NEITHER = {
    "Bird2", "BlurCar1", "BlurCar3", "BlurCar4", "Board", "Bolt2", "Car2", "Car24", "Coupon", "Dancer", "Dancer2",
    "Dog", "Girl2", "Gym", "Human2", "Human5", "Human7", "Human8", "KiteSurf", "Man", "Rubik", "Skater", "Skater2",
    "Toy", "Trans", "Twinnings", "Vase",
}  # fmt: skip
SUBSETS = {
    "OTB-2013": IN_BOTH | ONLY_2013,
    "OTB-50": IN_BOTH | ONLY_50,
    "OTB-2015": IN_BOTH | ONLY_2013 | ONLY_50 | IN_NEITHER,
}
TARGET = re.compile(r"_\d$")  # Jogging-1 and jogging_1 are of the folder Jogging


def name_key(name: str) -> str:
    """A sequence's name as names are compared: toolkits differ in case, and write `-`, `.` or a space for `_`."""
    return re.sub(r"[-. ]", "_", name).casefold()


def split_subset(sequences: Iterable[str], subset: str) -> tuple[list[str], list[str]]:
    """The sequences of a subset, in their order, and the folders of which there is none."""
    folders = {name_key(folder): folder for folder in SUBSETS[subset]}
    keys = {name: TARGET.sub("", name_key(name)) for name in sequences}
    missing = folders.keys() - keys.values()
    return [name for name, key in keys.items() if key in folders], sorted(folders[key] for key in missing)
