"""
What else the outcomes tell: the rules' own point, what a cascade comes to, and what could be known at all.

A cascade is measured as far as the data go: they say whether an answer was right and how long it was, and have none.
"""

import zlib
from typing import Any

import numpy as np
from policy import Known, order
from pools import Array, Row

FOLDS = 10

DRAWN = 60
"""Samples of the prompts by which the error of a cost is told."""

GPT4O = ("gpt-4o-2024-08-06", "gpt-4o-mini-2024-07-18")


def models(evaluate: Any, number: int) -> tuple[str, str]:
    """The weaker and the stronger model of a pair, by its number, as the rows name them."""
    _, _, strong, weak = (evaluate.PAIRS + evaluate.POOLS)[number]
    return evaluate.ALIAS.get(weak, weak), evaluate.ALIAS.get(strong, strong)


def pooled(evaluate: Any, scores: Array, prompts: list[Known], found: list[Any]) -> str:
    """
    The rules' quality, and at the same cost that of the policy as it ranks by the usual length of answers, as it would
    by 400 tokens for each, and of the scores alone; with one standard error of a difference.
    """
    lines = [
        "\nTHE RULES' OWN POINT, and at the same cost the cross-validated policy, with 400 tokens, and the score alone"
    ]
    for number, (name, at, known) in enumerate(found):
        here = [prompts[i] for i in map(int, at)]
        prices = tuple(evaluate.PRICE.get(model, (1, 1)) for model in models(evaluate, number))
        small = np.array([evaluate.hpp_is_weak(each.row.prompt) for each in here])
        ranked = [order(here, prices, answer_tokens=tokens) for tokens in (None, 400)]
        figures = [evaluate.metrics(each, *known, small) for each in (*ranked, scores[at])]
        error = float((known[1] - known[0]).std() / len(at) ** 0.5)
        lines.append(
            f"{name:27} rules {figures[0]['hpp_q']:.3f} at {figures[0]['hpp_cost']:4.0%} of the cost"
            + "".join(
                f"  {title} {each['q_at_hpp_cost']:.3f}"
                for title, each in zip(("policy", "400", "score"), figures, strict=True)
            )
            + f"  error at most {error:.3f}"
        )
    return "\n".join(lines) + "\n"


def nearly_all(evaluate: Any, rows: list[Row], scores: Array, prompts: list[Known], found: list[Any]) -> str:
    """
    What 99% of the stronger model's quality costs, as a share of always asking it: by the policy as it ranks, by the
    score alone, and by length; of each pair, and the mean of all pairs that the mixed sets have.

    With one standard error by a bootstrap over the prompts, of the last two that of the difference to the policy:
    where models differ by few prompts, as GPT-4o and 4o-mini do, which of these are bought early is mostly luck.
    """
    lines = ["\nTHE COST OF 99% of the stronger model's quality: the policy, the score alone, length"]
    length = np.array([float(len(row.prompt)) for row in rows])
    for number, (name, at, known) in enumerate(found):
        prices = tuple(evaluate.PRICE.get(model, (1, 1)) for model in models(evaluate, number))
        policy = order([prompts[i] for i in map(int, at)], prices)
        lines.append(f"{name:27} " + _said(evaluate, (policy, scores[at], length[at]), [known]))
    at, pairs, prices = _mixed(evaluate, rows)
    policy = order([prompts[i] for i in map(int, at)], prices)
    title = f"mean of {len(pairs)} mixed pairs"
    lines.append(f"{title:27} " + _said(evaluate, (policy, scores[at], length[at]), pairs))
    return "\n".join(lines) + "\n"


def _mixed(evaluate: Any, rows: list[Row]) -> tuple[Any, list[tuple[Array, ...]], Any]:
    """
    Every two models that answered all of ZeroEval's three sets and are 4 to 40 points apart, as if they had the prices
    of GPT-4o and 4o-mini, which are given too: how well one ranks for a single pair is mostly chance, for all less so.
    """
    strong, weak = GPT4O
    at = np.flatnonzero([row.source.startswith("zeroeval") for row in rows])
    here = [rows[i] for i in map(int, at)]
    both = sorted(set.intersection(*(set(row.outcomes) for row in here)))
    right = {model: np.array([row.outcomes[model][0] for row in here]) for model in both}
    read = np.array([row.tokens for row in here])
    prices = (evaluate.PRICE[weak], evaluate.PRICE[strong])
    cost = [
        {
            model: (read * price[0] + np.array([row.outcomes[model][1] for row in here]) * price[1]) / 1e6
            for model in both
        }
        for price in prices
    ]
    pairs: list[tuple[Array, ...]] = [
        (right[low], right[high], cost[0][low], cost[1][high])
        for low in both
        for high in both
        if 0.04 < right[high].mean() - right[low].mean() < 0.4
    ]
    return at, pairs, prices


def _said(evaluate: Any, orders: tuple[Array, ...], pairs: list[tuple[Array, ...]]) -> str:
    draw, count = np.random.default_rng(0), len(orders[0])
    every = np.arange(count)
    seen, *drawn = [
        [np.mean([_nearly(evaluate, each[at], [part[at] for part in known]) for known in pairs]) for each in orders]
        for at in (every, *(draw.integers(0, count, count) for _ in range(DRAWN)))
    ]
    spread = np.array(drawn)
    spread[:, 1:] -= spread[:, :1]
    return "  ".join(f"{share:.3f} +- {error:.3f}" for share, error in zip(seen, spread.std(0), strict=True))


def _nearly(evaluate: Any, scores: Array, known: list[Array]) -> float:
    quality, cost = evaluate.curve(scores, *known)
    return float(cost[int(np.argmax(quality >= 0.99 * known[1].mean() - 1e-12))] / known[3].mean())


def cascades(evaluate: Any, rows: list[Row], found: list[Any]) -> str:
    """
    Quality, and cost as a share of always asking the stronger model, of a cascade by four signals.

    Two samples of one model are not in the data. In their place stand the weaker model and the other one that is
    nearest to it in quality, at the weaker one's price: where one of them is right and the other wrong they disagree;
    where both are wrong they may agree in the error (``least``) or not (``most``).
    """
    lines = ["\nCASCADE: the weaker model first, the stronger one where its answer is found wanting; quality, cost"]
    lines.append(f"{'':27} weak   strong   empty answers    disagreement, least   most        a judge that never errs")
    for number, (name, at, (low, high, cheap, dear)) in enumerate(found):
        weak, strong = models(evaluate, number)
        outcomes = [rows[i].outcomes for i in map(int, at)]
        line = f"{name:27} {low.mean():.3f}  {high.mean():.3f}  "
        wanting = [np.array([float(each[weak][1] == 0) for each in outcomes])]
        others = set.intersection(*(set(each) for each in outcomes)) - {weak, strong}
        again = np.zeros(len(at))
        if others:
            mean = {other: np.mean([each[other][0] for each in outcomes]) for other in sorted(others)}
            other = min(mean, key=lambda each: abs(float(mean[each]) - float(low.mean())))
            again = np.array([each[other][0] for each in outcomes])
            differ = (again != low).astype(float)
            wanting += [differ, np.maximum(differ, 1 - np.maximum(low, again))]
        for twice, signal in enumerate(wanting):
            quality = np.where(signal > 0, high, low).mean()
            cost = (cheap * (2 if twice else 1) + signal * dear).mean() / dear.mean()
            line += f"   {quality:.3f} at {cost:4.0%}"
        if not others:
            line += f"{'(no third model)':^30}"
        line += (
            f"   {np.where(low > 0, low, high).mean():.3f} at {(cheap + (1 - low) * dear).mean() / dear.mean():4.0%}"
        )
        lines.append(line)
    return "\n".join(lines) + "\n"


def known_by_others(evaluate: Any, rows: list[Row], found: list[Any]) -> str:
    """
    What a prompt's difficulty is worth to those who know it: the gain of a pair, by a ridge regression on how all other
    models did on the very same prompt; tenfold, at the best of six penalties. Whoever sees the prompt alone knows less.
    """
    lines = [
        "\nKNOWING HOW ALL OTHER MODELS DID on the same prompt: APGR, and the cost of 99% of the stronger one's quality"
    ]
    for number, (name, at, known) in enumerate(found):
        outcomes = [rows[i].outcomes for i in map(int, at)]
        others = sorted(set.intersection(*(set(each) for each in outcomes)) - set(models(evaluate, number)))
        if not others:
            continue
        right = np.array([[each[other][0] for other in others] for each in outcomes])
        sources = [rows[i].source for i in map(int, at)]
        where = np.array([[float(source == each) for each in sorted(set(sources))] for source in sources])
        mean = right.mean(1, keepdims=True)
        inputs = np.c_[right, 3 * mean, 5 * (mean - 0.5) ** 2, where, 2 * where * mean]
        folds = np.array([zlib.crc32(rows[i].id.encode()) % FOLDS for i in map(int, at)])
        tried = [
            _predicted(inputs, known[1] - known[0], folds, ridge) for ridge in (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
        ]
        figures = max((evaluate.metrics(each, *known) for each in tried), key=lambda each: float(each["APGR"]))
        lines.append(f"{name:27} {len(others)} models: {figures['APGR']:.3f}, {figures['cost99']:4.0%}")
    return "\n".join(lines) + "\n"


def _predicted(inputs: Array, gain: Array, folds: Array, ridge: float) -> Array:
    found = np.zeros(len(gain))
    for fold in sorted(set(folds)):
        use = folds != fold
        middle, usual = inputs[use].mean(0), gain[use].mean()
        design = inputs[use] - middle
        weights = np.linalg.solve(design.T @ design + ridge * np.eye(design.shape[1]), design.T @ (gain[use] - usual))
        found[~use] = (inputs[~use] - middle) @ weights + usual
    return found
