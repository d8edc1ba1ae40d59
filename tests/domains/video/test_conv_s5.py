import math
from itertools import islice

import pytest
import torch
import torch.nn.functional as F
from helixwave.errors import InputError
from helixwave_domains.video.conv_lstm import ConvLSTM, ConvLSTMLayer
from helixwave_domains.video.conv_s5 import ROUTES, ConvS5, ConvSSM
from helixwave_domains.video.frame_predictor import Decoder, Encoder

MODELS = [pytest.param(ConvS5, id="conv_s5"), pytest.param(ConvLSTM, id="conv_lstm")]
LAYERS = [
    pytest.param(lambda: ConvSSM(8, d_state=8, n_block=2), id="standard"),
    pytest.param(lambda: ConvSSM(8, d_state=4, output="half_glu"), id="half_glu"),
    pytest.param(lambda: ConvSSM(8, d_state=6, output="resnet"), id="resnet"),
    pytest.param(lambda: ConvLSTMLayer(8), id="conv_lstm"),
]


def differs(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Root mean square of the difference over that of what is expected."""
    found, expected = found.detach(), expected.detach()
    return float((found - expected).abs().square().mean().sqrt() / expected.abs().square().mean().sqrt())


def plain_states(layer: ConvSSM, u: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """`x_t = Abar x_{t-1} + Bbar * u_t` from the parameters, in complex arithmetic, `[B, T, P, H, W]`."""
    Lambda = torch.complex(layer.Lambda_re, layer.Lambda_im)
    Abar = torch.exp(Lambda * layer.log_step.exp())
    Bbar = ((Abar - 1) / Lambda)[:, None, None, None] * torch.view_as_complex(layer.B)
    states = []
    for u_t in u.unbind(1):
        x = Abar[:, None, None] * x + F.conv2d(u_t.to(Bbar.dtype), Bbar, padding=1)
        states.append(x)
    return torch.stack(states, dim=1)


@pytest.mark.parametrize("route", ROUTES)
def test_states_and_outputs_are_those_of_the_recurrence(route):
    torch.manual_seed(0)
    layer = ConvSSM(8, d_state=8, route=route)
    u, x = torch.randn(2, 7, 8, 5, 6), torch.randn(2, 4, 5, 6, dtype=torch.complex64)
    states = plain_states(layer, u, x)
    C, convolved = torch.view_as_complex(layer.C), u.flatten(0, 1)
    y = 2 * F.conv2d(states.flatten(0, 1), C, padding=1).real + F.conv2d(convolved, layer.direct.weight)
    norm = layer.output[0]
    expected = convolved + F.silu(F.group_norm(y, 4, norm.weight, norm.bias))
    found, last = layer(u, x.permute(0, 2, 3, 1))
    assert differs(found, expected.view_as(u)) < 1e-5
    assert differs(last, states[:, -1].permute(0, 2, 3, 1)) < 1e-5


@pytest.mark.parametrize("output", ["standard", "half_glu", "resnet"])
def test_routes_agree_in_outputs_state_and_all_gradients(output):
    torch.manual_seed(0)
    layer = ConvSSM(8, d_state=8, output=output)
    given = torch.randn(2, 24, 8, 4, 4), torch.randn(2, 4, 4, 4, dtype=torch.complex64)
    weights = torch.randn_like(given[0]), torch.randn_like(given[1])
    results = {}
    for route in ROUTES:
        layer.route, inputs = route, [each.clone().requires_grad_() for each in given]
        outputs = layer(*inputs)
        total = sum((weight.conj() * each).real.sum() for weight, each in zip(weights, outputs, strict=True))
        gradients = torch.autograd.grad(total, [*inputs, *layer.parameters()])
        results[route] = [*outputs, *gradients]
    for route in ("scan", "fft"):
        for found, expected in zip(results[route], results["sequential"], strict=True):
            assert differs(found, expected) < 1e-5


def test_start_is_hippo():
    layer = ConvSSM(8, d_state=6, n_block=1)
    n = torch.arange(6, dtype=torch.float64)
    p = (n + 0.5).sqrt()
    normal = -torch.tril(2 * torch.outer(p, p), -1) - torch.diag(n + 1) + torch.outer(p, p)
    expected = torch.linalg.eigvals(normal)
    expected = expected[expected.imag < 0]
    found = torch.complex(layer.Lambda_re, layer.Lambda_im).detach()
    order = found.imag.argsort(), expected.imag.argsort()
    torch.testing.assert_close(found[order[0]], expected[order[1]].to(found.dtype))
    steps = layer.log_step.exp()
    assert steps.min() >= 1e-3
    assert steps.max() <= 1e-1


@pytest.mark.parametrize("make", LAYERS)
def test_state_handed_over_equals_one_pass(make):
    torch.manual_seed(0)
    layer, u = make(), torch.randn(2, 9, 8, 4, 4)
    whole, end = layer(u)
    state, pieces = None, []
    for piece in u.split([4, 1, 4], dim=1):
        y, state = layer(piece, state)
        pieces.append(y)
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole)
    torch.testing.assert_close(state, end)


@pytest.mark.parametrize("make", LAYERS)
def test_padding_and_the_rest_of_the_batch_change_nothing(make):
    torch.manual_seed(0)
    layer, u = make(), torch.randn(2, 6, 8, 4, 4)
    y, state = layer(u, lengths=torch.tensor([6, 4]))
    alone, state_alone = layer(u[1:, :4])
    torch.testing.assert_close(y[1:, :4], alone)
    last = [each[1:] for each in state] if isinstance(state, tuple) else [state[1:]]
    expected = state_alone if isinstance(state_alone, tuple) else [state_alone]
    for found, wanted in zip(last, expected, strict=True):
        torch.testing.assert_close(found, wanted)


def test_conv_lstm_is_the_equations():
    torch.manual_seed(0)
    layer, x = ConvLSTMLayer(4), torch.randn(1, 3, 4, 5, 5)
    h, c, hiddens = torch.zeros(1, 4, 5, 5), torch.zeros(1, 4, 5, 5), []
    for x_t in x.unbind(1):
        gates = F.conv2d(x_t, layer.from_input.weight, layer.from_input.bias, padding=1)
        i, f, o, g = (gates + F.conv2d(h, layer.from_hidden.weight, padding=1)).split(4, dim=1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        hiddens.append(h)
    torch.testing.assert_close(layer(x)[0], x + torch.stack(hiddens, dim=1))


@pytest.mark.parametrize("model", MODELS)
def test_rollout_feeds_predictions_back(model):
    torch.manual_seed(0)
    made, context = model(classes=["ink"], d_model=8, n_layer=1).eval(), torch.rand(2, 5, 1, 16, 16)
    lengths, seen = torch.tensor([5, 3]), context
    rolled = made.predict(context, 3, lengths)
    for number, clip in enumerate(context):
        seen = clip[None, : lengths[number]]
        for step in range(3):
            following = made(seen)[:, -1:]
            torch.testing.assert_close(rolled[number : number + 1, step], following[:, 0], atol=1e-5, rtol=1e-4)
            seen = torch.cat([seen, following], dim=1)


def test_rollout_of_a_thousand_frames_keeps_a_state_of_one_size():
    made, sizes = ConvS5(classes=["ink"], d_model=4, n_layer=1, d_state=2, patch=8), []
    advance = made.advance

    def watched(*arguments, **named):
        predicted, state = advance(*arguments, **named)
        sizes.append(sum(each.numel() * each.element_size() for each in state))
        assert predicted.shape[1] == (1 if len(sizes) > 1 else 3)
        return predicted, state

    made.advance = watched
    frames = list(islice(made.rollout(torch.rand(1, 3, 1, 16, 8)), 1000))
    assert len(frames) == len(sizes) == 1000
    assert set(sizes) == {2 * 1 * 8}
    assert not any(frame.requires_grad for frame in frames)
    assert all(math.isfinite(float(frame.sum())) for frame in frames[-3:])


def test_decoder_moves_patches_by_the_displacement_that_it_is_sure_of():
    decoder, frames = Decoder(2, 8, patch=4, reach=3), torch.rand(1, 2, 8, 12)
    down, across = torch.zeros(1, 2, 3, 7), torch.zeros(1, 2, 3, 7)
    down[..., 3 - 2] = 1
    across[..., 3 + 1] = 1
    patches = decoder.moved(frames, down, across)
    moved = patches.permute(0, 3, 1, 4, 2, 5).reshape(1, 2, 8, 12)
    # what is at a place was two rows above it and one column to the right
    expected = F.pad(frames, (0, 1, 2, 0))[:, :, :8, 1:]
    torch.testing.assert_close(moved, expected)


def test_encoder_sees_whole_patches():
    encoder, frames = Encoder(2, 8, 4), torch.rand(1, 2, 8, 12)
    weight = encoder.conv.weight.view(8, 3 * 3 * 32)
    patches = F.pad(frames, (4,) * 4).unfold(2, 12, 4).unfold(3, 12, 4).reshape(1, 2, 2, 3, 3, 4, 3, 4)
    columns = patches.permute(0, 2, 3, 5, 7, 1, 4, 6).reshape(6, 288)  # p p C k k
    torch.testing.assert_close(
        encoder.conv(encoder.patches(frames)).permute(0, 2, 3, 1).reshape(6, 8), columns @ weight.T + encoder.conv.bias
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"d_model": 6}, "model: d_model is 6, expected a multiple of 4"),
        ({"patch": 0}, "model: patch is 0, expected at least 1 pixel"),
        ({"reach": -1}, "model: reach is -1, expected at least 0 pixels"),
        ({"d_state": 5}, "model: d_state is 5, expected a multiple of 2 n_block = 2"),
        ({"kernel": 2}, "model: kernel is 2, expected an odd number"),
    ],
)
def test_what_makes_no_model_is_refused(arguments, message):
    with pytest.raises(InputError) as caught:
        ConvS5(classes=["ink"], **arguments)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 3, 2, 16, 16), "model: inputs have shape [1, 3, 2, 16, 16], expected frames [B, T, 1, H, W]"),
        ((1, 3, 1, 16, 18), "model: frames are [16, 18], expected multiples of 4. Change data.size"),
    ],
)
def test_frames_that_do_not_fit_are_refused(shape, message):
    with pytest.raises(InputError) as caught:
        ConvLSTM(classes=["ink"], d_model=4, n_layer=1, patch=4)(torch.rand(shape))
    assert str(caught.value) == message


def test_unknown_route_is_refused():
    with pytest.raises(InputError, match="model: route is 'circle', expected one of 'scan', 'fft', 'sequential'"):
        ConvSSM(4, d_state=2, route="circle")(torch.rand(1, 2, 4, 4, 4))
