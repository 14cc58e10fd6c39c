"""Twenty sigmoid layers: 0.25 a layer at most, and less than a million millionth in all.

python -m gradscope.samples.sigmoid_depth
"""

from __future__ import annotations

import math

import gradscope
from gradscope.samples import Budget, Claim, Formula, Section, Story, _figures, play, sample
from gradscope.samples._measures import claim_diagnosed, decades, proof, rows, signal
from gradscope.samples.digits import digits, network


@sample(
    id="sigmoid-depth",
    summary="twenty sigmoid layers hand back less than 0.25^19 of the gradient",
    full=Budget(steps=300, seeds=3, size=20),
    reduced=Budget(steps=100, seeds=3, size=20),
)
def run(budget: Budget) -> Story:
    x, y = digits()
    sick = network("sigmoid", budget.size)
    report = gradscope.analyze(sick, x, y)
    sick_layers = rows(report)

    treated = gradscope.apply(sick, report.prescriptions[:1], x)
    cured_report = gradscope.analyze(treated.model, x, y)
    cured_layers = rows(cured_report)
    trial = gradscope.trial(sick, treated.model, x, y, steps=budget.steps, seeds=budget.seeds)

    norms, cured = signal(sick_layers), signal(cured_layers)
    steps = budget.size - 1
    bound = 0.25**steps
    factors = [layer.backward.activation_factor or 0.0 for layer in sick_layers]
    flow = _figures.lines(
        "The gradient by layer",
        f"Line chart on a log scale. With sigmoid the gradient falls from {norms[-1]:.2g} at the "
        f"last layer to {norms[0]:.2g} at the first, below the bound of 0.25 a layer; with the "
        f"treated copy it is {cured[-1]:.2g} at the last and {cured[0]:.2g} at the first.",
        {"sigmoid": norms, "treated copy": cured},
        bounds={"0.25 a layer": [norms[-1] * 0.25**n for n in range(steps, -1, -1)]},
        x_label="hidden layer",
        y_label="L2 norm of dL/d output",
    )
    return Story(
        sections=(
            Section(
                "The sick network",
                f"{budget.size} layers of 32 sigmoid units and a softmax classify handwritten "
                "digits. On its way back the gradient is multiplied, at every layer, by the "
                "derivative of the activation and by the weights. Sigmoid's derivative is at most "
                f"a quarter, so the activations of {steps} layers pass on at most "
                f"0.25^{steps} = {bound:.2g} of what arrives, whatever the data are.",
                formulas=(
                    Formula(
                        "σ'(z) = σ(z) (1 - σ(z)) ≤ 1/4",
                        "Hochreiter 1991, diploma thesis, TU München",
                    ),
                    Formula(
                        "dL/dz_k = diag(σ'(z_k)) W_(k+1) dL/dz_(k+1)",
                        "Rumelhart, Hinton, Williams 1986, doi:10.1038/323533a0",
                    ),
                ),
            ),
            Section(
                "What the report says",
                f"{report.findings[0].message} Nothing is trained for this: the start alone "
                "decides.",
                claims=(
                    claim_diagnosed(report, "vanishing-gradient"),
                    Claim(
                        "largest activation factor of all layers",
                        max(factors),
                        at_least=0.15,
                        at_most=0.25,
                    ),
                    Claim(
                        f"product of the {steps} activation factors, of which 0.25^{steps} is the "
                        "bound",
                        math.prod(factors[1:]),
                        at_most=bound,
                    ),
                    Claim(
                        f"gradient at hidden_1 over gradient at hidden_{budget.size}, beside the "
                        f"bound 0.25^{steps}",
                        norms[0] / norms[-1],
                        at_most=bound,
                    ),
                ),
                report="sick",
            ),
            Section(
                "The cure",
                f"The first prescription is {report.prescriptions[0].treatment}. "
                f"{report.prescriptions[0].rationale} It is carried out on a copy.",
                figures=(flow,),
                claims=(
                    Claim(
                        "the treated copy's gradient at hidden_1 over that of the sick network, "
                        "each relative to its last layer",
                        decades(cured) - decades(norms),
                        at_least=8.0,
                        unit="decades",
                    ),
                ),
                report="treated",
            ),
            proof({"treated copy": trial}, "sigmoid", at_least=0.3),
        ),
        reports={"sick": report, "treated": cured_report},
    )


if __name__ == "__main__":
    play("sigmoid-depth")
