"""Statistics of the random clicks that a training sample starts with."""

import numpy as np

from pipeline.clicks.random_clicks import RandomClicksConfig, border_ring, random_clicks
from pipeline.data.objects import other_objects, select_object
from pipeline.data.sample import pack_objects
from tests.parity.cases import Case, Deviations, Kind

SIGMAS = 4.0
"""Band for the difference of two samples: 3 sigma as published, widened for a few dozen comparisons at one seed."""


def _sigmas(p: float, n: int, q: float, m: int) -> float:
    """Difference of two observed shares in standard deviations."""
    pooled = (p * n + q * m) / (n + m)
    spread = np.sqrt(max(pooled * (1 - pooled), 1e-9) * (1 / n + 1 / m))
    return float(abs(p - q) / spread)


def _histogram_sigmas(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Two-sample chi-square over well-filled bins, as standard deviations of its distribution."""
    order = ours + theirs >= 20
    a, b = np.append(ours[order], ours[~order].sum()), np.append(theirs[order], theirs[~order].sum())
    keep = a + b > 0
    a, b = a[keep], b[keep]
    chi2 = float(((a * np.sqrt(b.sum() / a.sum()) - b * np.sqrt(a.sum() / b.sum())) ** 2 / (a + b)).sum())
    degrees = len(a) - 1
    return (chi2 - degrees) / np.sqrt(2 * degrees)


def replay(case: Case) -> Deviations:
    record, params = case.record, dict(case.record["params"])
    config = RandomClicksConfig(
        max_clicks=params.pop("max_num_points"),
        prob_gamma=params.pop("prob_gamma", 0.7),
        merge_objects_prob=params.pop("merge_objects_prob", 0.0),
        max_merged=params.pop("max_num_merged_objects", 2),
    )
    assert not params, f"settings of the sampler that are not translated: {params}"
    labels = case.arrays["labels"]
    masks = [(str(value), "", labels == value) for value in np.unique(labels[labels > 0])]
    sample = pack_objects("labels", np.zeros((*labels.shape, 3), np.uint8), masks)
    rng, num = np.random.default_rng(20), record["n"]
    most = config.max_clicks
    positives, negatives = np.zeros(most + 1, int), np.zeros(most + 1, int)
    where = {"border": 0, "other": 0, "bg_rest": 0}
    merged = inside = 0
    orders: set[int] = set()
    for _ in range(num):
        selection = select_object(sample, rng, config.merge_objects_prob, config.max_merged)
        others = other_objects(sample, selection.target)
        clicks = random_clicks(selection.masks, others, rng, config)
        yx = clicks.yx.astype(int)
        used = np.split(clicks.valid, 2)
        positives[used[0].sum()] += 1
        negatives[used[1].sum()] += 1
        merged += len(selection.masks) > 1
        inside += int(selection.target[tuple(yx[:most][used[0]].T)].sum())
        rows = tuple(yx[most:][used[1]].T)
        ring = border_ring(selection.target, config.expand_ratio)[rows]
        other = others[rows] & ~ring
        assert not selection.target[rows].any()
        for name, hit in (("border", ring), ("other", other), ("bg_rest", ~ring & ~other)):
            where[name] += int(hit.sum())
        orders |= set(clicks.order.tolist())

    assert sorted(orders) == record["order_values"]
    assert inside == (positives * np.arange(most + 1)).sum() * record["pos_inside_fraction"]
    num_negative = int((negatives * np.arange(most + 1)).sum())
    theirs = int((np.array(record["hist_neg"]) * np.arange(most + 1)).sum())
    sigmas = {
        "positive counts": _histogram_sigmas(positives, np.array(record["hist_pos"])),
        "negative counts": _histogram_sigmas(negatives, np.array(record["hist_neg"])),
        "merged": _sigmas(merged / num, num, record["merged_fraction"], num),
    }
    for name, share in record["neg_where"].items():
        sigmas[f"negatives: {name}"] = _sigmas(where[name] / num_negative, num_negative, share, theirs)
    assert max(sigmas.values()) <= SIGMAS, sigmas
    return {f"{name} (sigmas)": value for name, value in sigmas.items()}


KIND = Kind(stem="point_sampler.*", fields=frozenset({"hist_pos", "hist_neg", "neg_where"}), replay=replay)
