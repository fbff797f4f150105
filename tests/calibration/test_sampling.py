"""Which frames are chosen: every pair valid and different; sequences, sizes and gaps even."""

from __future__ import annotations

import numpy as np
import pytest

from siamtrt.calibration.sampling import candidates_of, choose_pairs, even_shares


def rng(seed=0):
    return np.random.default_rng(seed)


def candidates(sides, visible=None):
    """Of a sequence whose target is a square of these sides."""
    boxes = np.column_stack([np.zeros((len(sides), 2)), sides, sides])
    return candidates_of(boxes, np.ones(len(sides), bool) if visible is None else visible)


def test_candidates_show_the_target_three_times():
    visible = np.array([0, 1, 0, 1, 1, 1, 0, 1], bool)
    found = candidates(np.full(8, 20.0), visible)
    assert found.templates.tolist() == [1, 3, 4, 5, 7]
    assert found.searches.tolist() == [4, 5]
    assert found.choices.tolist() == [2, 3]
    assert found.count == 5


def test_strata_are_quarters_of_an_octave_of_the_side():
    edges = 2.0 ** (np.arange(16, 32) / 4)
    sides = np.concatenate([edges[:1], edges * 1.001, edges * 1.18])
    found = candidates(sides)
    np.testing.assert_array_equal(found.strata, [*range(16, 32), *range(16, 32)])
    boxes = np.column_stack([np.zeros((len(sides), 2)), sides * 2, sides / 2])
    np.testing.assert_array_equal(candidates_of(boxes, np.ones(len(sides), bool)).strata, found.strata)


@pytest.mark.parametrize(
    ("capacities", "count", "expected"),
    [
        ([9, 9, 9], 6, [2, 2, 2]),
        ([1, 9, 9], 7, [1, 3, 3]),
        ([0, 2, 99], 50, [0, 2, 48]),
        ([3, 4, 5], 12, [3, 4, 5]),
        ([3, 4], 0, [0, 0]),
    ],
)
def test_shares_are_even_as_far_as_capacities_allow(capacities, count, expected):
    assert even_shares(np.array(capacities), count, rng()).tolist() == expected


def test_the_odd_ones_are_drawn():
    shares = np.array([even_shares(np.array([5, 5, 5]), 4, rng(seed)) for seed in range(300)])
    assert (shares.sum(axis=1) == 4).all()
    assert (np.sort(shares) == [1, 1, 2]).all()
    np.testing.assert_allclose((shares == 2).mean(axis=0), 1 / 3, atol=0.1)


def test_pairs_are_valid_and_different():
    visible = rng(1).random(60) < 0.7
    found = candidates(rng(2).uniform(10, 90, 60), visible)
    (pairs,) = choose_pairs([found], 300, rng())
    assert len({(t, j) for t, j in pairs.tolist()}) == 300
    for template, search in pairs.tolist():
        assert template < search
        assert visible[[template, search - 1, search]].all()
    assert (np.diff(pairs[:, 1]) >= 0).all()


@pytest.mark.parametrize("lengths", [(5, 9, 2), (2, 2), (12,)])
def test_all_pairs_are_taken_where_as_many_are_asked_for(lengths):
    sequences = [candidates(np.linspace(10, 40, length)) for length in lengths]
    chosen = choose_pairs(sequences, sum(item.count for item in sequences), rng())
    for length, pairs in zip(lengths, chosen, strict=True):
        assert sorted(pairs.tolist()) == [[t, j] for t in range(length) for j in range(t + 1, length)]


def test_sequences_give_as_many_pairs_whatever_their_length():
    sequences = [candidates(np.full(length, 30.0)) for length in (1000, 100, 50, 3)]
    chosen = choose_pairs([*sequences, candidates(np.zeros(5), np.zeros(5, bool))], 303, rng())
    assert [len(pairs) for pairs in chosen] == [100, 100, 100, 3, 0]


def test_rare_sizes_are_as_frequent_as_common_ones():
    """A target that is 16 pixels wide in 940 of 1,000 frames and four other sizes in 15 each."""
    sides = np.repeat([17.0, 34.0, 68.0, 136.0, 272.0], [940, 15, 15, 15, 15])
    rng(3).shuffle(sides)
    (pairs,) = choose_pairs([candidates(sides)], 50, rng())
    assert np.unique(sides[pairs[:, 1]], return_counts=True)[1].tolist() == [10] * 5
    (pairs,) = choose_pairs([candidates(sides)], 200, rng())
    _, counts = np.unique(sides[pairs[:, 1]], return_counts=True)
    assert len(np.unique(pairs[:, 1])) == 200, "no frame twice while others are unused"
    assert counts[0] >= 140
    assert (counts[1:] >= 14).all()


def test_a_growing_target_is_drawn_evenly_in_log_size():
    sides = 16 * 16 ** np.linspace(0, 1, 1000) ** 3  # four octaves, most frames in the lowest
    assert np.histogram(np.log2(sides), 4)[0][0] > 5 * np.histogram(np.log2(sides), 4)[0][3]
    (pairs,) = choose_pairs([candidates(sides)], 160, rng())
    counts = np.histogram(np.log2(sides[pairs[:, 1]]), 4, (4, 8.0001))[0]
    assert np.abs(counts - 40).max() <= 2


def test_search_frames_of_one_size_and_their_gaps_are_uniform():
    """Chi-square against uniform at 9 degrees of freedom: 21.7 at 1 %; the gaps are stratified, far below it."""
    (pairs,) = choose_pairs([candidates(np.full(501, 30.0))], 400, rng())
    template, search = pairs.T

    def chi_square(values, low, high):
        counts = np.histogram(values, 10, (low, high))[0]
        return ((counts - 40.0) ** 2 / 40).sum()

    assert chi_square(search, 1, 501) < 21.7
    long = search >= 100
    shares = (search - template)[long] / search[long]
    counts = np.histogram(shares, 10, (0, 1))[0]
    assert ((counts - counts.mean()) ** 2 / counts.mean()).sum() < 5
    assert (search - template).min() < 10
    assert (search - template).max() > 300


def test_every_seed_has_its_own_pairs_and_one_seed_the_same():
    sequences = [candidates(rng(4).uniform(10, 90, 200)) for _ in range(3)]
    first, again, other = (np.concatenate(choose_pairs(sequences, 60, rng(seed))) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
