"""Which frames of a folder belong to a sequence, where its dataset says so apart from the files.

Sources: the benchmarks' own configurations (SaveSequenceConfig of tracker_benchmark for OTB, configSeqs of UAV123 and
UAV123_10fps), as pytracking and the got10k toolkit repeat them. Frames count from 1, both ends belong to the range.
"""

from __future__ import annotations

from itertools import pairwise

# Tiger1's first five frames are left out by OTB's MATLAB toolkit, pysot's description and pytracking, not by got10k.
OTB_RANGES = {
    "blurcar1": (247, 988), "blurcar3": (3, 359), "blurcar4": (18, 397), "david": (300, 770), "diving": (1, 215),
    "football1": (1, 74), "freeman3": (1, 460), "freeman4": (1, 283), "tiger1": (6, 354),
}  # fmt: skip

UAV_FOLDERS = {"UAV123": "UAV123", "UAV20L": "UAV123", "UAV123_10fps": "UAV123_10fps"}  # of anno/ -> of data_seq/

# A part ends with the frame the next one starts with: `car1_2` is frames 751 to 1627 of `car1`.
UAV_CUTS = {
    "car1": (1, 751, 1627, 2629), "car6": (1, 487, 1807, 2953, 3925, 4861), "car8": (1, 1357, 2575),
    "car16": (1, 415, 1993), "group1": (1, 1333, 2515, 3925, 4873), "group2": (1, 907, 1771, 2683),
    "group3": (1, 1567, 2827, 4369, 5527), "person2": (1, 1189, 2623), "person4": (1, 1501, 2743),
    "person5": (1, 877, 2101), "person7": (1, 1249, 2065), "person8": (1, 1075, 1525), "person12": (1, 601, 1621),
    "person14": (1, 847, 1813, 2923), "person17": (1, 1501, 2347), "person19": (1, 1243, 2791, 4357),
    "truck4": (1, 577, 1261),
}  # fmt: skip
UAV_PARTS = {
    "bird1": ((1, 253), (775, 1477), (1573, 2437)),
    "uav1": ((1, 1555), (1555, 2377), (2473, 3469)),
    **{video: tuple(pairwise(cuts)) for video, cuts in UAV_CUTS.items()},
}
KEPT_OF_10FPS = 3  # every third frame of UAV123, from the first


def uav_range(name: str, part: str) -> tuple[str, int, int] | None:
    """Video, first and last frame of a sequence that is part of a video; None where it is all of it."""
    video, _, number = name.rpartition("_")
    ranges = UAV_PARTS.get(video, ()) if part != "UAV20L" else ()
    if number not in map(str, range(1, len(ranges) + 1)):
        return None
    first, last = ranges[int(number) - 1]
    if part == "UAV123_10fps":
        first, last = (first - 1) // KEPT_OF_10FPS + 1, (last - 1) // KEPT_OF_10FPS + 1
    return video, first, last
