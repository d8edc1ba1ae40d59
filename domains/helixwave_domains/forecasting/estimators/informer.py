"""Informer as a sktime forecaster."""

from typing import Any, ClassVar

from helixwave.errors import InputError, nearest
from torch import nn

from helixwave_domains.forecasting.estimators.network import Calendar, Inputs, NetworkForecaster
from helixwave_domains.forecasting.estimators.panel import Series
from helixwave_domains.forecasting.informer import FORMS, Informer
from helixwave_domains.forecasting.training import Training


class InformerForecaster(NetworkForecaster):
    """Informer, ProbSparse attention and all steps of the forecast in one pass (Zhou et al. 2021).

    Where the index is of times, what the calendar says of each step is read as well; exogenous variables are read
    beside that. The published size is d_model=512, n_head=8, d_ff=2048, with training={"lr": 1e-4}; forecasts are the
    same each time, as the keys that are drawn for a forecast are fixed.

    Parameters
    ----------
    context : int, default=96
        Steps that a forecast reads; fewer of a short series.
    label : int, optional
        Known steps that the decoder begins with; by default half the context.
    form : "informer2020" or "ltsf", default="informer2020"
        The published code of the authors, or that of the LTSF and Autoformer benchmarks.
    d_model, n_head, d_ff : int, default=64, 4, 128
        Channels, heads of attention, and hidden units behind it.
    encoders : tuple of int, default=(2,)
        Layers of each encoder; (3, 2, 1) is the published InformerStack. Fewer where the context is too short.
    n_decoder_layer : int, default=1
        Layers of the decoder.
    factor : int, default=5
        Of ProbSparse attention: how many queries attend, over the logarithm of the length.
    dropout : float, default=0.05
        In training.
    time_embedding : "features", "fixed" or "learned", default="features"
        A linear map of features of the time, or tables of the fields of the calendar, which read no exogenous
        variables.
    training : dict, optional
        Settings of the training by their names in `helixwave_domains.forecasting.training.Training`: lr, epochs,
        batch_size, patience, device, progress and more.
    interval : "gaussian" or "conformal", default="gaussian"
        How intervals follow from errors on the part that is held out.
    validation : float, default=0.2
        The share at the end of each series that is held out: it chooses the epoch, and errors are measured on it.
    standardise : bool, default=True
        Whether each channel is standardised by what it is fitted to.
    random_state : int, optional
        Seed of weights, dropout, draws of keys and the order of windows.

    Examples
    --------
    >>> from helixwave_domains.forecasting import InformerForecaster
    >>> from sktime.datasets import load_airline
    >>> forecaster = InformerForecaster(context=24, d_model=8, n_head=2, d_ff=8, training={"epochs": 1})
    >>> forecaster.fit(load_airline(), fh=[1, 2, 3]).predict().shape
    (3,)
    """

    defaults: ClassVar[Training] = Training(epochs=10, min_steps=25, lr=1e-3, schedule="type1", patience=3)

    def __init__(
        self,
        context: int = 96,
        label: int | None = None,
        form: str = "informer2020",
        d_model: int = 64,
        n_head: int = 4,
        d_ff: int = 128,
        encoders: tuple[int, ...] = (2,),
        n_decoder_layer: int = 1,
        factor: int = 5,
        dropout: float = 0.05,
        time_embedding: str = "features",
        training: dict[str, Any] | None = None,
        interval: str = "gaussian",
        validation: float = 0.2,
        standardise: bool = True,
        random_state: int | None = None,
    ):
        self.context = context
        self.label = label
        self.form = form
        self.d_model = d_model
        self.n_head = n_head
        self.d_ff = d_ff
        self.encoders = encoders
        self.n_decoder_layer = n_decoder_layer
        self.factor = factor
        self.dropout = dropout
        self.time_embedding = time_embedding
        self.training = training
        self.interval = interval
        self.validation = validation
        self.standardise = standardise
        self.random_state = random_state
        super().__init__()

    def _calendar(self) -> Calendar:
        return "features" if self.time_embedding == "features" else "fields"

    def _inputs(self, series: list[Series]) -> Inputs:
        if self.time_embedding != "features" and series[0].exogenous.shape[1]:
            raise InputError(
                f"time_embedding={self.time_embedding!r} reads no exogenous variables: time_embedding='features' does"
            )
        return super()._inputs(series)

    def _build(self) -> nn.Module:
        if self.form not in FORMS:
            raise InputError(f"Informer: no form {self.form!r}. {nearest(self.form, FORMS)}")
        return Informer(
            self.context_,
            self.horizon_,
            self.inputs_.n_channel,
            n_mark=self.inputs_.n_exogenous,
            time_embedding=self.time_embedding,  # type: ignore[arg-type]
            label=None if self.label is None else min(self.label, self.context_),
            d_model=self.d_model,
            n_head=self.n_head,
            encoders=self._encoders(),
            n_decoder_layer=self.n_decoder_layer,
            d_ff=self.d_ff,
            factor=self.factor,
            dropout=self.dropout,
            **FORMS[self.form],
        )

    def _encoders(self) -> list[int]:
        """Those that have a step to read, each with as many layers as it can halve what it reads."""
        reads = [self.context_ >> i for i in range(len(self.encoders))]
        return [min(n, length.bit_length()) for n, length in zip(self.encoders, reads, strict=True) if length]

    @classmethod
    def get_test_params(cls, parameter_set: str = "default") -> list[dict[str, Any]]:
        small = {"context": 6, "d_model": 4, "n_head": 2, "d_ff": 4, "training": {"epochs": 1, "min_steps": 1}}
        return [{**small, "encoders": (1,)}, {**small, "form": "ltsf", "interval": "conformal"}]
