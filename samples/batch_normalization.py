"""Pre-activations pulled out of saturation: one tanh network with and without normalisation.

python -m gradscope.samples.batch_normalization
"""

from __future__ import annotations

import math

import gradscope
from gradscope.samples import Budget, Claim, Formula, Section, Story, _figures, play, sample
from gradscope.samples._measures import claim_diagnosed, find_prescription, proof, rows
from gradscope.samples.digits import digits, network, normal

# tanh' = 1 - tanh² is below a tenth of its maximum beyond artanh(√0.9) = 1.818.
EDGE = math.atanh(math.sqrt(0.9))
NORMAL_SHARE = math.erfc(EDGE / math.sqrt(2))


@sample(
    id="batch-normalization",
    summary="pre-activations pulled out of saturation, with and without BatchNormalization",
    full=Budget(steps=200, seeds=3, size=10),
    reduced=Budget(steps=60, seeds=3, size=6),
)
def run(budget: Budget) -> Story:
    x, y = digits()
    sick = network("tanh", budget.size, kernel_initializer=normal(2.0))
    report = gradscope.analyze(sick, x, y)

    prescription = find_prescription(report, "batch-normalization")
    treated = gradscope.apply(sick, [prescription], x)
    cured = gradscope.analyze(treated.model, x, y)
    trial = gradscope.trial(sick, treated.model, x, y, steps=budget.steps, seeds=budget.seeds)
    before, after = rows(report), rows(cured)
    inside = [layer for layer in after if layer.path.endswith("_activation")]
    norms = [layer for layer in after if layer.class_ == "BatchNormalization"]
    widths = [layer.preactivation.std if layer.preactivation else 0.0 for layer in before]
    narrow = [layer.output.std if layer.output else 0.0 for layer in norms]
    stuck = [layer.saturated_fraction or 0.0 for layer in before]
    freed = [layer.saturated_fraction or 0.0 for layer in inside]
    return Story(
        sections=(
            Section(
                "The sick network",
                f"{budget.size} tanh layers whose kernels start from N(0, 2): their "
                f"pre-activations have standard deviations up to {max(widths):.2g}, far out "
                f"where tanh is flat. "
                f"{report.findings[0].message}",
                formulas=(
                    Formula(
                        f"tanh'(z) = 1 - tanh²(z) < 1/10  for |z| > artanh(√0.9) = {EDGE:.2f}",
                        "derivative of tanh; the bound of saturation is gradscope's",
                    ),
                ),
                claims=(
                    claim_diagnosed(report, "saturated-activation"),
                    Claim("smallest share of saturated pre-activations", min(stuck), at_least=0.5),
                ),
                report="without",
            ),
            Section(
                "The cure",
                f"{prescription.rationale} A normal distribution of variance 1 has "
                f"{NORMAL_SHARE:.1%} of its mass beyond ±{EDGE:.2f}: that much should be left of "
                "the saturation.",
                formulas=(
                    Formula(
                        "BN(z) = γ (z - mean(z)) / √(var(z) + ε) + β",
                        "Ioffe and Szegedy 2015, arXiv:1502.03167, algorithm 1",
                    ),
                ),
                figures=(
                    _figures.lines(
                        "Spread of what reaches tanh",
                        "Line chart: the standard deviation of the pre-activations is "
                        f"{min(widths):.2g} to {max(widths):.2g} without and {min(narrow):.2g} to "
                        f"{max(narrow):.2g} with BatchNormalization.",
                        {"without": widths, "with BatchNormalization": narrow},
                        x_label="hidden layer",
                        y_label="standard deviation",
                    ),
                    _figures.bars(
                        "Share of saturated pre-activations",
                        f"Bar chart: {min(stuck):.0%} to {max(stuck):.0%} without and "
                        f"{min(freed):.0%} to {max(freed):.0%} with BatchNormalization.",
                        {"without": stuck, "with BatchNormalization": freed},
                        [str(n) for n in range(1, len(stuck) + 1)],
                        "saturated share",
                    ),
                ),
                claims=(
                    Claim(
                        "with BatchNormalization: largest deviation of the standard deviation "
                        "from 1",
                        max(abs(value - 1) for value in narrow),
                        at_most=0.01,
                    ),
                    Claim(
                        "with BatchNormalization: mean share of saturated pre-activations",
                        sum(freed) / len(freed),
                        at_least=NORMAL_SHARE - 0.03,
                        at_most=NORMAL_SHARE + 0.03,
                    ),
                ),
                report="with",
            ),
            proof({"with BatchNormalization": trial}, "without", at_least=0.2),
        ),
        reports={"without": report, "with": cured},
    )


if __name__ == "__main__":
    play("batch-normalization")
