"""What the attributes of results say, in plain numpy: their texts, and a function for each."""

import numpy as np

from tests.analysis.stored import NAN


def cosine(x, y):
    size = np.linalg.norm(x) * np.linalg.norm(y)
    return (x * y).sum() / size if size > 0 else NAN


def over(x, y):
    return np.linalg.norm(x) / np.linalg.norm(y) if np.linalg.norm(y) > 0 else NAN


def entropy_rank(weights):
    p = weights[weights > 0] / weights.sum()
    return np.exp(-(p * np.log(p)).sum())


def of_any(function):
    """Give 0 for zeros."""
    return lambda s, *more: function(s, *more) if np.any(s) else 0.0


participation = of_any(lambda s: (s**2).sum() ** 2 / (s**4).sum())
roy_vetterli = of_any(entropy_rank)
RANKS = {
    "(sum s^2)^2 / sum s^4": participation,
    "exp(-sum q ln q), q = s / sum s": roy_vetterli,
    "exp(-sum p ln p), p = s^2 / sum s^2": of_any(lambda s: entropy_rank(s**2)),
    "sum s^2 / max s^2": of_any(lambda s: (s**2).sum() / (s**2).max()),
}
RANKS = {f"{formula}; 0 of zeros": function for formula, function in RANKS.items()}
SAMPLES = "(sum |x_i|^2)^2 / sum |x_i|^4, sum |x_i|^2 = sum s^2; 0 of zeros"


def samples(p):
    squares = (p.rows**2).sum(1)
    second, fourth = p.instead[0][1:3] if p.instead else (squares.sum(), (squares**2).sum())
    return second**2 / fourth if fourth > 0 else 0.0


def debiased(p):
    rows = p.rows
    n, fourth = len(rows), ((rows**2).sum(1) ** 2).sum()
    if p.instead:
        n, _, _, fourth = p.instead[0]
    total, square = (rows**2).sum(), ((rows.T @ rows) ** 2).sum()
    top = 2 * square + (n * n - 3 * n + 1) * total**2 - n * (n - 1) * fourth
    return top / ((n - 1) * (n - 2) * square + total**2 - n * (n - 1) * fourth) if total else 0.0


def unit_rows(p):
    rows = p.rows
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0)
    return participation(np.linalg.svd(p.instead[0] if p.instead else unit, compute_uv=False))


def over_samples(cosines, statistic):
    return statistic(cosines[~np.isnan(cosines)]) if not np.isnan(cosines).all() else NAN


def angle(p, which):
    u, v = p.bases
    if any(np.linalg.matrix_rank(p.matrix(i)) < u.shape[1] for i in (0, 1)):
        return NAN
    sines = np.linalg.svd(v - u @ (u.T @ v), compute_uv=False)
    cosines = np.linalg.svd(u.T @ v, compute_uv=False)
    near = np.degrees(np.arcsin(np.clip(np.sort(sines), 0, 1)))  # accurate where the cosine is not
    return np.where(cosines**2 > 0.5, near, np.degrees(np.arccos(cosines)))[which]


def displacement(p):
    weight, start = p.matrices
    return np.linalg.svd(weight - start, compute_uv=False)


def conservation(p):
    """Return the drift unit by unit; a layer with a bias has it in ``read_too``."""
    weight, first, above, above_first, feedback = p.matrices
    if "static/bias_init" in p.too:
        if "bias" not in p.too:
            return NAN
        weight, first = (np.column_stack([w, p.too[b]]) for w, b in ((weight, "bias"), (first, "first/bias")))
    norms = [weight[k] @ weight[k] - first[k] @ first[k] for k in range(len(weight))]
    aligned = [2 * feedback[:, k] @ (above[:, k] - above_first[:, k]) for k in range(len(weight))]
    apart = sum(abs(n - a) for n, a in zip(norms, aligned, strict=True))
    size = sum(abs(n) + abs(a) for n, a in zip(norms, aligned, strict=True))
    return apart / size if size > 0 else NAN


def floor(p):
    if p.instead:
        return float(p.instead[0])
    update, weight = (p.records[i][0][0] for i in (0, 1))
    spacing = np.sqrt((np.spacing(np.abs(weight)).astype(np.float64) ** 2).sum() / 12)
    return spacing / np.linalg.norm(update) if update.any() else NAN


def hsic(k, other):
    n = len(k)
    k, other = (m - np.diag(np.diag(m)) for m in (k, other))
    cross = k.sum() * other.sum() / ((n - 1) * (n - 2)) - 2 * (k @ other).sum() / (n - 2)
    return (np.trace(k @ other) + cross) / (n * (n - 3))


def cka(p):
    k, first = (p.matrix(i) @ p.matrix(i).T for i in (0, 1))
    return hsic(k, first) / np.sqrt(hsic(k, k) * hsic(first, first))


def pseudo(p):
    modulator, delta, weight = p.matrices
    sent = delta @ np.linalg.pinv(weight, rcond=1e-6).T
    with np.errstate(invalid="ignore"):
        found = (modulator * sent).sum(1) / np.linalg.norm(modulator, axis=1) / np.linalg.norm(sent, axis=1)
    return over_samples(found, np.mean)


def product(records):
    matrix = np.eye(records[0][0].shape[1])
    for values, _, _ in records:
        matrix = values.astype(np.float64) @ matrix
    return matrix


def alignment_matrix(p):
    weight, start, above, below = p.matrices
    change = weight - start
    matrix = np.linalg.pinv(above.T, rcond=1e-6) @ change @ np.linalg.pinv(below, rcond=1e-6)
    size = np.linalg.norm(change)
    return matrix, np.linalg.norm(change - above.T @ matrix @ below) / size if size else 0.0


def identity_cosine(p):
    matrix, residual = alignment_matrix(p)
    return cosine(matrix, np.eye(len(matrix))) if residual <= 0.1 else NAN


def exploration(p):
    gram = sum(m.T @ m for m in p.matrices)
    return np.trace(gram) ** 2 / (gram**2).sum() if gram.any() else 0.0


def chance_std(p):
    n, k = p.shape[1], p.bases[0].shape[1]
    return np.sqrt(2 * (n - k) ** 2 / (n**2 * (n - 1) * (n + 2))) if n > 1 else 0.0


_SAMPLE = "x_i . y_i / (|x_i| |y_i|)"
_BOTH = "over the samples where both have a direction"
_A = "A = (F_l^T)^+ dW F_(l-1)^+, dW = W_l - W_l(0), rcond 1e-06"
_FLOOR = "sqrt(sum spacing(W)^2 / 12) / |dW|_F"
ANGLE = "arccos cos(vec W, vec B)"
#: The attribute ``formula`` -> a function of `Place`.
FORMULAS = {
    **{formula: lambda p, rank=rank: rank(p.s) for formula, rank in RANKS.items()},
    SAMPLES: samples,
    "[2 F + (N^2 - 3 N + 1) T^2 - N (N - 1) D] / [(N - 1) (N - 2) F + T^2 - N (N - 1) D], K = X X^T of the N "
    "centered rows, T = tr K, F = |K|_F^2, D = sum K_ii^2; 0 of zeros": debiased,
    "(sum s^2)^2 / sum s^4 of x_i / |x_i|; 0 of zeros": unit_rows,
    f"{_SAMPLE}, mean {_BOTH}": lambda p: over_samples(p.cosines, np.mean),
    f"{_SAMPLE}, median {_BOTH}": lambda p: over_samples(p.cosines, np.median),
    "#{i: |x_i| > 0 and |y_i| > 0} / N": lambda p: np.mean(~np.isnan(p.cosines)),
    "|X|_F / |Y|_F": lambda p: over(*p.vectors),
    "|G|_F / |G_bp|_F": lambda p: over(*p.vectors),
    "|B|_F / |W|_F": lambda p: over(*p.vectors[::-1]),
    "<G, G_bp>_F / (|G|_F |G_bp|_F)": lambda p: cosine(*p.vectors),
    "<-dW, G_bp>_F / (|dW|_F |G_bp|_F)": lambda p: -cosine(*p.vectors),
    "<dW, G_bp>_F": lambda p: p.vectors[0] @ p.vectors[1],
    "<W, B>_F / (|W|_F |B|_F)": lambda p: cosine(*p.vectors),
    ANGLE: lambda p: np.degrees(np.arccos(cosine(*p.vectors))),
    "#{ij: sign W_ij = sign B_ij} / size": lambda p: np.mean(np.equal(*map(np.sign, p.vectors))),
    "jacobian_cosine = <J_W, J_B>_F / (|J_W|_F |J_B|_F), J of one sample, from the outputs to the layer, "
    f"mean {_BOTH}": lambda p: over_samples(p.vectors[0], np.mean),
    "|U_k^T V_k|_F^2 / k": lambda p: (np.matmul(p.bases[0].T, p.bases[1]) ** 2).sum() / p.bases[0].shape[1],
    "k / columns": lambda p: p.bases[0].shape[1] / p.shape[1],
    "min(k, rows, columns)": lambda p: p.bases[0].shape[1],
    "sqrt(2 (n - k)^2 / (n^2 (n - 1) (n + 2))), n columns": chance_std,
    "arccos s, s the largest singular value of U_k^T V_k": lambda p: angle(p, 0),
    "arccos s, s the smallest singular value of U_k^T V_k": lambda p: angle(p, -1),
    "(sum s^2)^2 / sum s^4, s of W - W_0; 0 of zeros": lambda p: participation(displacement(p)),
    "exp(-sum q ln q), q = s / sum s, s of W - W_0; 0 of zeros": lambda p: roy_vetterli(displacement(p)),
    "|W - W_0|_F / |W_0|_F": lambda p: over(p.vectors[0] - p.vectors[1], p.vectors[1]),
    _FLOOR: floor,
    f"{_FLOOR} <= 0.001": lambda p: float(floor(p) <= 1e-3) if floor(p) == floor(p) else NAN,
    "sum_k |dN_k - dA_k| / sum_k (|dN_k| + |dA_k|), N_k = |W_l[k,:]|^2 + b_l[k]^2, "
    "A_k = 2 B_(l+1)[:,k] . W_(l+1)[:,k], d the change since the first record": conservation,
    "cos(vec W_L ... W_(l+1), vec B_L ... B_(l+1))": lambda p: cosine(*map(product, p.records)),
    "cos(vec W_L ... W_(l+1), vec F_l)": lambda p: cosine(*map(product, p.records)),
    f"{_SAMPLE}, Y = delta_(l+1) (W_(l+1)^+)^T, rcond 1e-06": pseudo,
    "cos(vec W_l, vec F_l^T F_(l-1))": lambda p: cosine(p.matrix(0), p.matrix(1).T @ p.matrix(2)),
    "cos(vec W_L, vec F_(L-1))": lambda p: cosine(*p.vectors),
    f"|dW - F_l^T A F_(l-1)|_F / |dW|_F, {_A}; 0 of zeros": lambda p: alignment_matrix(p)[1],
    f"tr A / (|A|_F sqrt(outputs)), {_A}": identity_cosine,
    "HSIC(K_t, K_0) / sqrt(HSIC(K_t, K_t) HSIC(K_0, K_0)), K = X X^T, unbiased HSIC": cka,
    "(tr S)^2 / |S|_F^2, S = sum dW^T dW over the last 10 records; 0 of zeros": exploration,
}
