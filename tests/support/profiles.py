"""Made-up profiles: changed in one layer, and what one symptom finds in them."""

from __future__ import annotations

import dataclasses

from gradscope.diagnosis.diagnose import diagnose
from gradscope.records import Finding, Profile


def find(symptom: str, profile: Profile) -> list[Finding]:
    return list(diagnose(profile, select=[symptom])[0])


def change_layer(profile: Profile, number: int, **values) -> Profile:
    layers = list(profile.layers)
    layers[number] = dataclasses.replace(layers[number], **values)
    return dataclasses.replace(profile, layers=tuple(layers))
