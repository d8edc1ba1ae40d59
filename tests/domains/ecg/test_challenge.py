"""The official scores beside loops written from their definition."""

import math

import numpy as np
import pytest
import torch
from helixwave.errors import InputError
from helixwave.objectives import MultiLabel
from helixwave_domains.ecg.challenge import areas, challenge_metric, challenge_scores, in_classes, label_matrix
from helixwave_domains.ecg.challenge_objective import EcgDiagnoses, asymmetric_loss, challenge_year, soft_reward
from helixwave_domains.ecg.snomed import class_names, reward_matrix, scored_classes
from sklearn import metrics as sk

CODES = {year: [scored.code.split("|") for scored in scored_classes(year)] for year in (2020, 2021)}


def by_definition(truth, columns, binary, scalar, year):
    """All scores, recording by recording and class by class, from codes and columns as files have them."""
    n_class, rows = len(CODES[year]), range(len(truth))
    y = [[any(code in truth[i] for code in codes) for codes in CODES[year]] for i in rows]
    b, s = [[False] * n_class for _ in rows], [[0.0] * n_class for _ in rows]
    for i in rows:
        for k, codes in enumerate(CODES[year]):
            members = [j for j, column in enumerate(columns) if set(column.split("|")) & set(codes)]
            b[i][k] = any(binary[i][j] for j in members)
            values = [scalar[i][j] for j in members]
            if year == 2020:
                values = [value for value in values if not math.isnan(value)]
            else:
                values = [value if math.isfinite(value) else 0.0 for value in values]
            s[i][k] = sum(values) / len(values) if values else 0.0
    found = {"accuracy": sum(y[i] == b[i] for i in rows) / len(truth), "challenge": metric(y, b, year)}
    for k in range(n_class):
        column = [[each[i][k] for i in rows] for each in (y, b, s)]
        for name, value in class_scores(*column, [max(sum(y[i]), 1) for i in rows]).items():
            found.setdefault(name, []).append(value)
    return found


def class_scores(y, b, s, n_label):
    tp, fp, fn = (sum(y[i] == t and b[i] == p for i in range(len(y))) for t, p in ((1, 1), (0, 1), (1, 0)))
    TP, FP, FN = (
        sum((y[i] == t and b[i] == p) / n_label[i] for i in range(len(y))) for t, p in ((1, 1), (0, 1), (1, 0))
    )
    tpr, tnr, ppv, positives = [0.0], [1.0], [math.nan], sum(y)
    for threshold in sorted(set(s), reverse=True):
        hits = sum(t and value >= threshold for t, value in zip(y, s, strict=True))
        alarms = sum(not t and value >= threshold for t, value in zip(y, s, strict=True))
        tpr.append(hits / positives if positives else math.nan)
        tnr.append(1 - alarms / (len(y) - positives) if positives < len(y) else math.nan)
        ppv.append(hits / (hits + alarms))
    steps = range(1, len(tpr))
    return {
        "auroc": sum((tpr[j] - tpr[j - 1]) * (tnr[j] + tnr[j - 1]) / 2 for j in steps),
        "auprc": sum((tpr[j] - tpr[j - 1]) * ppv[j] for j in steps),
        "f": 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else math.nan,
        "f2": 5 * TP / (5 * TP + FP + 4 * FN) if tp + fp + fn else math.nan,
        "g2": TP / (TP + FP + 2 * FN) if tp + fp + fn else math.nan,
    }


def metric(y, b, year):
    sinus = [["426783006" in codes for codes in CODES[year]]] * len(y)
    observed, correct, inactive = (total_reward(y, given, year) for given in (b, y, sinus))
    return (observed - inactive) / (correct - inactive) if correct != inactive else 0.0


def total_reward(y, b, year):
    rewards, total = reward_matrix(year), 0.0
    for truth, given in zip(y, b, strict=True):
        either = max(sum(t or g for t, g in zip(truth, given, strict=True)), 1)
        for j, t in enumerate(truth):
            total += sum(rewards[j][k] / either for k, g in enumerate(given) if t and g)
    return total


def draw(rng, year):
    """Codes, permuted columns of which some are missing, equivalent or not scored, and outputs with ties and NaN."""
    known = [code for codes in CODES[year] for code in codes]
    used = list(rng.permutation(known)[: rng.integers(1, len(known) + 1)])
    truth = [[*rng.choice(used, rng.integers(0, 4)), "999"] for _ in range(rng.integers(1, 25))]
    columns = [*rng.permutation(known)[: rng.integers(1, len(known) + 1)], "59118001|713427006", "999"]
    columns = list(rng.permutation(columns))
    shape = len(truth), len(columns)
    values = [0.0, 0.1, 0.25, 0.5, 0.7, 1.0, math.nan, math.inf]
    return truth, columns, rng.random(shape) < rng.random(), rng.choice(values, shape)


@pytest.mark.parametrize("year", [2020, 2021])
def test_scores_are_those_of_the_definition(year):
    rng = np.random.default_rng(year)
    for _ in range(40):
        truth, columns, binary, scalar = draw(rng, year)
        expected = by_definition(truth, columns, binary, scalar, year)
        labels = label_matrix(truth, year)
        found = challenge_scores(labels, *in_classes(columns, binary, scalar, year), year)
        for name, values in found.by_class.items():
            np.testing.assert_allclose(values, expected[name], rtol=0, atol=1e-10, err_msg=name)
            defined = [value for value in expected[name] if not math.isnan(value)]
            mean = sum(defined) / len(defined) if defined else math.nan
            assert found.macro[name] == pytest.approx(mean, abs=1e-10, nan_ok=True)
        for name in ("accuracy", "challenge"):
            assert found.macro[name] == pytest.approx(expected[name], abs=1e-10)
        assert ("f2" in found.by_class) == (year == 2020)


@pytest.mark.parametrize("year", [2020, 2021])
def test_perfect_is_one_sinus_rhythm_is_zero_and_nothing_is_less(year):
    labels = np.random.default_rng(0).random((40, len(CODES[year]))) < 0.1
    sinus = np.zeros_like(labels)
    sinus[:, class_names(year).index("NSR")] = True
    assert challenge_metric(labels, labels, year) == 1
    assert challenge_metric(labels, sinus, year) == 0
    assert challenge_metric(labels, np.zeros_like(labels), year) < 0
    assert challenge_metric(sinus, labels, year) == 0
    assert challenge_scores(labels, labels, labels, year).macro["f"] == 1


def test_areas_are_those_of_scikit_learn_also_with_ties():
    rng = np.random.default_rng(1)
    for digits in (0, 1, 8):
        positive, scores = rng.random(50) < 0.3, np.round(rng.normal(size=50), digits)
        expected = sk.roc_auc_score(positive, scores), sk.average_precision_score(positive, scores)
        assert areas(positive, scores) == pytest.approx(expected, abs=1e-12)


def test_areas_of_one_kind_alone_are_those_of_the_definition():
    scores = np.array([0.3, 0.3, 0.1])
    assert np.isnan(areas(np.zeros(3, bool), scores)).all()
    roc, pr = areas(np.ones(3, bool), scores)
    assert math.isnan(roc)
    assert pr == 1


def test_arrays_of_another_shape_are_refused():
    flags = np.zeros((2, 26), bool)
    with pytest.raises(InputError, match=r"labels have the shape \[2, 25\], expected \[recordings, 26\]"):
        challenge_metric(flags[:, 1:], flags)
    with pytest.raises(InputError, match=r"the shapes \[2, 26\], \[1, 26\], \[2, 26\]: expected one and the same"):
        challenge_scores(flags, flags[:1], flags)
    with pytest.raises(InputError, match=r"shape \[0, 26\]"):
        challenge_metric(flags[:0], flags[:0])


def objective_batch(year=2021, n=30):
    rng = np.random.default_rng(3)
    target = torch.tensor(rng.random((n, len(CODES[year]))) < 0.15).float()
    return 2 * target - 1 + torch.tensor(rng.normal(size=target.shape)).float(), target


@pytest.mark.parametrize("year", [2020, 2021])
def test_the_objective_has_the_official_scores_in_any_order_of_classes(year):
    outputs, target = objective_batch(year)
    order = np.random.default_rng(4).permutation(len(CODES[year]))
    classes = [class_names(year)[i] for i in order]
    judge = EcgDiagnoses(classes, monitor="challenge")
    found = judge.score(*judge.scored(outputs[:, order], target[:, order]))
    official = challenge_scores(target.numpy(), outputs.numpy() > 0, outputs.numpy(), year).macro
    assert found == pytest.approx({name: official[name] for name in ("auroc", "auprc", "f", "challenge")})
    assert judge.year == year


def test_recordings_with_an_unknown_label_do_not_enter_the_metric():
    outputs, target = objective_batch()
    judge = EcgDiagnoses(class_names(2021))
    known = judge.score(outputs[1:], target[1:])["challenge"]
    target[0, 5] = math.nan
    assert judge.score(outputs, target)["challenge"] == known
    assert math.isnan(judge.score(outputs[:1], target[:1])["challenge"])


def test_the_bootstrap_interval_is_among_the_scores():
    outputs, target = objective_batch(n=200)
    found = EcgDiagnoses(class_names(2021), intervals=50).score(outputs, target)
    assert found["auroc_low"] < found["auroc"] < found["auroc_high"]
    one_kind = EcgDiagnoses(["AF", "SB"], intervals=5).score(outputs[:, :2], torch.ones(200, 2))
    assert math.isnan(one_kind["auroc_low"])


def test_the_asymmetric_loss_is_its_equation():
    outputs, target = objective_batch(n=4)
    target[0, 3] = math.nan
    total, count = 0.0, 0
    for x, y in zip(outputs.double().flatten().tolist(), target.flatten().tolist(), strict=True):
        if not math.isnan(y):
            p = 1 / (1 + math.exp(-x))
            shifted = max(p - 0.05, 0)
            total -= math.log(p) if y else shifted**4 * math.log(1 - shifted)
            count += 1
    judge = EcgDiagnoses(class_names(2021), loss="asymmetric")
    assert float(judge.loss(outputs, target)) == pytest.approx(total / count, rel=1e-5)
    assert float(judge.loss(outputs, torch.full_like(target, math.nan))) == 0
    assert float(asymmetric_loss(torch.tensor([-3.0]), torch.tensor([0.0]))) == 0


def test_the_soft_reward_of_sure_outputs_is_the_hard_one():
    outputs, target = objective_batch()
    sure = torch.where(outputs > 0, 200.0, -200.0).double()
    found = soft_reward(sure, target.double(), torch.tensor(reward_matrix(2021)))
    expected = [total_reward([y], [b], 2021) for y, b in zip(target.tolist(), (outputs > 0).tolist(), strict=True)]
    assert found.tolist() == pytest.approx(expected, abs=1e-10)


def test_the_challenge_loss_is_cross_entropy_less_the_reward_in_any_order():
    outputs, target = objective_batch()
    order = np.random.default_rng(4).permutation(26)
    reward = soft_reward(outputs, target, torch.tensor(reward_matrix(2021)).float()).mean()
    expected = MultiLabel(class_names(2021)).loss(outputs, target) - reward
    shuffled = EcgDiagnoses([class_names(2021)[i] for i in order], loss="challenge")
    logits = outputs[:, order].requires_grad_()
    found = shuffled.loss(logits, target[:, order])
    assert float(found.detach()) == pytest.approx(float(expected), rel=1e-5)
    found.backward()
    assert logits.grad.isfinite().all()


def test_labels_are_shown_with_their_scores_and_counts():
    outputs, target = objective_batch()
    target[:, 2] = 0
    picture = EcgDiagnoses(class_names(2021)).pictures(outputs, target)[0]
    assert picture.title == "Scores of each label"
    assert picture.table["positive"].tolist() == target.sum(0).tolist()
    official = challenge_scores(target.numpy(), outputs.numpy() > 0, outputs.numpy()).by_class
    for name, key in (("AUROC", "auroc"), ("AUPRC", "auprc"), ("F", "f")):
        np.testing.assert_allclose(picture.table[name], official[key])
    assert len(picture.figure.axes[0].get_yticks()) == 26


@pytest.mark.parametrize("argument", ["monitor", "loss"])
def test_the_challenge_needs_its_classes(argument):
    with pytest.raises(InputError, match=f"{argument} is challenge, and the 3 classes of the data are not those"):
        EcgDiagnoses(["AF", "NSR", "SB"], **{argument: "challenge"})
    assert set(EcgDiagnoses(["AF", "NSR"]).score(*(each[:, :2] for each in objective_batch()))) == {
        "auroc",
        "auprc",
        "f",
    }
    assert challenge_year([*class_names(2021), "AF"]) is None
    with pytest.raises(InputError, match="intervals is -1, expected 0 or more"):
        EcgDiagnoses(["AF"], intervals=-1)
