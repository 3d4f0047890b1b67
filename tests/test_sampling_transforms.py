"""sample_vmf under everything torch does to a function: torch.func, compile, export, checkpointing, forward mode."""

import pytest
import torch
from test_sampling import directions
from torch.func import grad, hessian, jacfwd, jacrev, jvp, vjp, vmap

import vmf_ops

pytestmark = pytest.mark.usefixtures("device")

double = torch.float64
DIMS = (2, 3, 5, 70)
FIRST_ONLY = "first derivatives"


@pytest.fixture
def parameters():
    torch.manual_seed(100)
    return directions(6, DIMS, double), torch.rand(6, len(DIMS), dtype=double) * 9 + 0.1


def draw(loc, kappa, **options):
    return vmf_ops.sample_vmf(loc, kappa, DIMS, **options)


def seeded(loc, kappa):
    torch.manual_seed(101)
    return draw(loc, kappa)


def reverse(loc, kappa, weight):
    leaves = loc.detach().requires_grad_(), kappa.detach().requires_grad_()
    return torch.autograd.grad(seeded(*leaves), leaves, weight)


def test_no_grad_draws_the_same(parameters):
    with torch.no_grad():
        plain = seeded(*parameters)
    assert not plain.requires_grad
    assert torch.equal(plain, seeded(*(p.clone().requires_grad_() for p in parameters)))
    with torch.inference_mode():
        assert torch.equal(plain, seeded(*parameters))


def test_each_gradient_alone(parameters):
    weight = torch.randn(6, sum(DIMS), dtype=double)
    both = reverse(*parameters, weight)
    for i in range(2):
        leaves = [p.clone().requires_grad_(i == j) for j, p in enumerate(parameters)]
        assert torch.equal(torch.autograd.grad(seeded(*leaves), leaves[i], weight)[0], both[i])


def test_forward_mode_is_the_transpose_of_reverse(parameters):
    tangents = tuple(torch.randn_like(p) for p in parameters)
    weight = torch.randn(6, sum(DIMS), dtype=double)
    z, moved = jvp(seeded, parameters, tangents)
    assert torch.equal(z, seeded(*parameters))
    by_reverse = sum((g * t).sum() for g, t in zip(reverse(*parameters, weight), tangents, strict=True))
    assert torch.allclose((weight * moved).sum(), by_reverse, rtol=1e-12)
    # each alone, and by dual numbers
    for i in range(2):
        alone = [t if i == j else torch.zeros_like(t) for j, t in enumerate(tangents)]
        function = lambda p, i=i: seeded(*(p if i == j else q for j, q in enumerate(parameters)))  # noqa: E731
        assert torch.allclose(
            jvp(function, (parameters[i],), (tangents[i],))[1], jvp(seeded, parameters, tuple(alone))[1]
        )
    with torch.autograd.forward_ad.dual_level():
        dual = seeded(*(torch.autograd.forward_ad.make_dual(p, t) for p, t in zip(parameters, tangents, strict=True)))
        assert torch.equal(torch.autograd.forward_ad.unpack_dual(dual).tangent, moved)


def test_vjp_and_jacobians(parameters):
    weight = torch.randn(6, sum(DIMS), dtype=double)
    for mine, theirs in zip(vjp(seeded, *parameters)[1](weight), reverse(*parameters, weight), strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-12)
    for argument in range(2):
        by_rows = jacrev(seeded, argnums=argument)(*parameters)
        by_columns = jacfwd(seeded, argnums=argument, randomness="same")(*parameters)
        assert torch.allclose(by_rows, by_columns, atol=1e-14)


def test_vmap_randomness(parameters):
    loc, kappa = (p[:1].expand(5, *p.shape[1:]) for p in parameters)
    different = vmap(draw, randomness="different")(loc, kappa)
    assert all(not torch.equal(different[0], other) for other in different[1:])
    same = vmap(draw, randomness="same")(loc, kappa)
    assert all(torch.equal(same[0], other) for other in same[1:])
    with pytest.raises(RuntimeError) as ours:
        vmap(draw)(loc, kappa)
    with pytest.raises(RuntimeError) as theirs:
        vmap(lambda p: torch.randn_like(p))(loc)
    assert str(ours.value) == str(theirs.value)


def test_vmap_follows_the_law():
    """Slices differ and each is its own law: E w by slice, a vmap within a vmap."""
    torch.manual_seed(102)
    kappa = torch.tensor([[0.5, 2.0, 8.0], [20.0, 50.0, 100.0]], dtype=double)
    mu = torch.eye(4, dtype=double)[0]
    one = lambda k: vmf_ops.sample_vmf(mu, k[None], sample_shape=(20_000,))[:, 0]  # noqa: E731
    w = vmap(vmap(one, randomness="different"), randomness="different")(kappa)
    error = (w.mean(-1) - vmf_ops.iv_ratio(2, kappa)) / (w.std(-1) / 20_000**0.5)
    assert error.abs().max() < 4.5


@pytest.mark.parametrize("in_dims", [(0, 0), (0, None), (None, 0), (1, 0)])
@pytest.mark.parametrize("randomness", ["same", "different"])
def test_vmap_of_gradients(parameters, in_dims, randomness):
    loc, kappa = parameters
    inputs = [p.movedim(0, d) if d is not None else p[0] for p, d in zip((loc, kappa), in_dims, strict=True)]
    weight = torch.randn(sum(DIMS), dtype=double)

    def one(loc, kappa):
        return (draw(loc, kappa) * weight).sum()

    def draw_and_grads(loc, kappa):
        z, pull = vjp(draw, loc, kappa)
        return z, *pull(weight)

    z, loc_grad, kappa_grad = vmap(draw_and_grads, in_dims=in_dims, randomness=randomness)(*inputs)
    # The gradients of these draws, slice by slice: the angle of each is in its z.
    assert z.shape == loc_grad.shape == (6, sum(DIMS)) and kappa_grad.shape == (6, len(DIMS))
    for row in range(6):
        mu = loc[row] if in_dims[0] is not None else loc[0]
        for part, mu_part, g, got in zip(*(t.split(DIMS) for t in (z[row], mu, weight, loc_grad[row])), strict=True):
            assert torch.allclose(got, (part @ mu_part) * g - (g @ mu_part) * part, atol=1e-12)
    grads = vmap(grad(one, argnums=(0, 1)), in_dims=in_dims, randomness=randomness)(*inputs)
    assert [g.shape for g in grads] == [(6, sum(DIMS)), (6, len(DIMS))]


def test_vmap_of_forward_mode(parameters):
    loc, kappa = parameters
    moved = vmap(
        lambda mu, k: jvp(draw, (mu, k), (torch.zeros_like(mu), torch.ones_like(k)))[1], randomness="different"
    )
    assert moved(loc, kappa).shape == loc.shape
    one = lambda t: jvp(lambda k: seeded(loc[0], k), (kappa[0],), (t,))[1]  # noqa: E731
    jacobian = vmap(one, randomness="same")(torch.eye(len(DIMS), dtype=double))
    assert torch.allclose(jacobian.T, jacrev(lambda k: seeded(loc[0], k))(kappa[0]), atol=1e-14)


def test_second_derivatives_are_refused(parameters):
    loc, kappa = parameters
    leaves = loc.clone().requires_grad_(), kappa.clone().requires_grad_()
    first = torch.autograd.grad(draw(*leaves).sin().sum(), leaves, create_graph=True)
    for of in first:
        with pytest.raises(NotImplementedError, match=FIRST_ONLY):
            torch.autograd.grad(of.sum(), leaves, retain_graph=True)
    total = lambda k: seeded(loc, k).sin().sum()  # noqa: E731
    for second in (
        lambda: jacrev(jacrev(total))(kappa),
        lambda: jacfwd(jacrev(total), randomness="same")(kappa),
        lambda: jacrev(jacfwd(total, randomness="same"))(kappa),
        lambda: jacfwd(jacfwd(total, randomness="same"), randomness="same")(kappa),
    ):
        with pytest.raises(NotImplementedError, match=FIRST_ONLY):
            second()
    with pytest.raises((NotImplementedError, RuntimeError)):
        hessian(total)(kappa)


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compiles_without_a_break(parameters, backend):
    loc, kappa = parameters

    def loss(loc, kappa):
        return draw(loc * 1.0, kappa, sample_shape=(3,)).sin().sum()

    compiled = torch.compile(loss, fullgraph=True, backend=backend)
    leaves = [p.clone().requires_grad_() for p in parameters]
    first, second = compiled(*leaves), compiled(*leaves)
    assert first != second  # each call draws afresh
    gradients = torch.autograd.grad(second, leaves)
    assert all(torch.isfinite(g).all() for g in gradients)
    if backend == "aot_eager":  # inductor draws its random numbers in its own way
        torch.manual_seed(103)
        expected = loss(*leaves)
        torch.manual_seed(103)
        got = compiled(*leaves)
        assert torch.equal(got, expected)
        for a, b in zip(torch.autograd.grad(got, leaves), torch.autograd.grad(expected, leaves), strict=True):
            assert torch.allclose(a, b, rtol=1e-12)
    with torch.no_grad():
        assert torch.compile(draw, fullgraph=True, backend=backend)(loc, kappa).shape == loc.shape


def test_compiles_once_for_every_batch_size(parameters):
    compilations = []

    def backend(graph, _):
        compilations.append(graph)
        return graph.forward

    compiled = torch.compile(draw, fullgraph=True, dynamic=True, backend=backend)
    for rows in (3, 5, 8):
        loc, kappa = (p[:1].expand(rows, -1) for p in parameters)
        assert compiled(loc, kappa).shape == (rows, sum(DIMS))
    assert len(compilations) == 1


def test_exports_any_batch_size(parameters):
    class Module(torch.nn.Module):
        def forward(self, loc, kappa):
            return draw(loc, kappa)

    batch = torch.export.Dim("batch")
    program = torch.export.export(Module(), parameters, dynamic_shapes=({0: batch}, {0: batch}))
    for rows in (4, 6):
        z = program.module()(*(p[:rows] for p in parameters))
        for part in z.split(DIMS, -1):
            assert torch.allclose(part.norm(dim=-1), torch.ones(rows, dtype=double))


def test_checkpointing_draws_once(parameters):
    leaves = [p.clone().requires_grad_() for p in parameters]
    torch.manual_seed(104)
    z = torch.utils.checkpoint.checkpoint(lambda mu, k: draw(mu, k).sin(), *leaves, use_reentrant=False)
    got = torch.autograd.grad(z.sum(), leaves)
    torch.manual_seed(104)
    expected = torch.autograd.grad(draw(*leaves).sin().sum(), leaves)
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


def test_schemas_and_fakes(parameters):
    loc, kappa = (p[None] for p in parameters)
    key = torch.tensor([1])
    checks = ("test_schema", "test_faketensor")
    torch.library.opcheck(torch.ops.vmf_ops.sample_vmf.default, (loc, kappa, DIMS, key, 12), test_utils=checks)
    z, cosine = torch.ops.vmf_ops.sample_vmf(loc, kappa, DIMS, key, 12)
    for wanted in ((True, True), (False, True), (True, False)):
        args = (torch.ones_like(z), z, cosine, loc, kappa, DIMS, True, *wanted)
        torch.library.opcheck(torch.ops.vmf_ops.sample_vmf_backward.default, args, test_utils=checks)
    args = (loc, kappa, z, cosine, loc, kappa, DIMS, False)
    torch.library.opcheck(torch.ops.vmf_ops.sample_vmf_forward_ad.default, args, test_utils=checks)


def test_ops_refuse_what_does_not_fit(parameters):
    loc, kappa = (p[None] for p in parameters)
    key = torch.tensor([1])
    op = torch.ops.vmf_ops.sample_vmf
    for args in (
        (loc, kappa, DIMS, key, 7),  # rows not a multiple of loc's
        (loc, kappa, DIMS[:-1], key, 6),
        (loc, kappa.float(), DIMS, key, 6),
        (loc, kappa, DIMS, key.float(), 6),
        (loc.expand(2, -1, -1), kappa, DIMS, torch.ones(3, dtype=torch.long), 6),
        (loc, kappa, (1, *DIMS), key, 6),
    ):
        with pytest.raises(RuntimeError):
            op(*args)
