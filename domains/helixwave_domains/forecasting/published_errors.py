"""The published errors of the long-horizon benchmarks, mean squared and mean absolute.

Zeng et al. 2023, "Are Transformers Effective for Time Series Forecasting?", table 2, and LTSF-Linear's
LTSF-Benchmark.md, whose second table has the labels of NLinear and DLinear exchanged: here they are as in the paper.
Test windows were evaluated in batches of 32, and a last, smaller one was left out.
"""

# by model and data set, for horizons 96, 192, 336, 720 (national_illness: 24, 36, 48, 60)
_TABLE = """
linear   ETTh1             .375/.397 .418/.429 .479/.476 .624/.592
linear   ETTh2             .288/.352 .377/.413 .452/.461 .698/.595
linear   ETTm1             .308/.352 .340/.369 .376/.393 .440/.435
linear   ETTm2             .168/.262 .232/.308 .320/.373 .413/.435
linear   exchange_rate     .082/.207 .167/.304 .328/.432 .964/.750
linear   weather           .176/.236 .218/.276 .262/.312 .326/.365
linear   electricity       .140/.237 .153/.250 .169/.268 .203/.301
linear   traffic           .410/.282 .423/.287 .436/.295 .466/.315
linear   national_illness  1.947/.985 2.182/1.036 2.256/1.060 2.390/1.104
nlinear  ETTh1             .374/.394 .408/.415 .429/.427 .440/.453
nlinear  ETTh2             .277/.338 .344/.381 .357/.400 .394/.436
nlinear  ETTm1             .306/.348 .349/.375 .375/.388 .433/.422
nlinear  ETTm2             .167/.255 .221/.293 .274/.327 .368/.384
nlinear  exchange_rate     .089/.208 .180/.300 .331/.415 1.033/.780
nlinear  weather           .182/.232 .225/.269 .271/.301 .338/.348
nlinear  electricity       .141/.237 .154/.248 .171/.265 .210/.297
nlinear  traffic           .410/.279 .423/.284 .435/.290 .464/.307
nlinear  national_illness  1.683/.858 1.703/.859 1.719/.884 1.819/.917
dlinear  ETTh1             .375/.399 .405/.416 .439/.443 .472/.490
dlinear  ETTh2             .289/.353 .383/.418 .448/.465 .605/.551
dlinear  ETTm1             .299/.343 .335/.365 .369/.386 .425/.421
dlinear  ETTm2             .167/.260 .224/.303 .281/.342 .397/.421
dlinear  exchange_rate     .081/.203 .157/.293 .305/.414 .643/.601
dlinear  weather           .176/.237 .220/.282 .265/.319 .323/.362
dlinear  electricity       .140/.237 .153/.249 .169/.267 .203/.301
dlinear  traffic           .410/.282 .423/.287 .436/.296 .466/.315
dlinear  national_illness  2.215/1.081 1.963/.963 2.130/1.024 2.368/1.096
informer ETTh1             .865/.713 1.008/.792 1.107/.809 1.181/.865
informer ETTh2             3.755/1.525 5.602/1.931 4.721/1.835 3.647/1.625
informer ETTm1             .672/.571 .795/.669 1.212/.871 1.166/.823
informer ETTm2             .365/.453 .533/.563 1.363/.887 3.379/1.338
informer exchange_rate     .847/.752 1.204/.895 1.672/1.036 2.478/1.310
informer weather           .300/.384 .598/.544 .578/.523 1.059/.741
informer electricity       .274/.368 .296/.386 .300/.394 .373/.439
informer traffic           .719/.391 .696/.379 .777/.420 .864/.472
informer national_illness  5.764/1.677 4.755/1.467 4.763/1.469 5.264/1.564
"""
LINEAR_FAMILY = ("linear", "nlinear", "dlinear")


def _cells() -> dict[tuple[str, str, int], tuple[float, float]]:
    found = {}
    for model, dataset, *errors in map(str.split, _TABLE.strip().splitlines()):
        horizons = (24, 36, 48, 60) if dataset == "national_illness" else (96, 192, 336, 720)
        for horizon, both in zip(horizons, errors, strict=True):
            mse, mae = map(float, both.split("/"))
            found[model, dataset, horizon] = mse, mae
    return found


PUBLISHED = _cells()
"""Mean squared and mean absolute error by model, data set and horizon."""


def best_linear(dataset: str, horizon: int) -> float | None:
    """The least published squared error of the linear family; None where there is none."""
    known = [PUBLISHED[model, dataset, horizon][0] for model in LINEAR_FAMILY if (model, dataset, horizon) in PUBLISHED]
    return min(known, default=None)


def verdict(ours: float, published: float) -> str:
    """`win`, `tie` or `loss` of a squared error against a published one, of three digits."""
    rounded = round(ours, 3)
    return "win" if rounded < published else "tie" if rounded == published else "loss"
