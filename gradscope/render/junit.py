"""The report as JUnit XML: a test case a finding, and one for every other symptom."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Collection
from typing import Any

from gradscope.render.happenings import history_lines, rehearsal_lines, trial_outcome, trial_title
from gradscope.render.remedies import join_remedies, list_remedies
from gradscope.render.values import (
    clean,
    describe_evidence,
    dig,
    findings_by_severity,
    items,
    join_names,
)
from gradscope.render.verdict import verdict

# What XML 1.0 (section 2.2) allows in a document; `clean` has escaped the rest but for these.
_NO_CHARACTER = re.compile("[\ufffe\uffff]")


def render_junit(report: dict[str, Any], failing: Collection[str] = ("error",)) -> str:
    """JUnit XML from the plain data of a report.

    Args:
        failing: severities that count as failures; other findings are written beside a test case
            that passes. Symptoms that were not examined are skipped tests.
    """
    report = clean(report)
    cases = [*_findings(report, failing), *_others(report)]
    counts = {
        tag: sum(case.find(tag) is not None for case in cases) for tag in ("failure", "skipped")
    }
    suite = ElementTree.Element(
        "testsuite",
        name=_xml(f"gradscope {dig(report, 'model', 'name') or ''}".strip()),
        tests=str(len(cases)),
        failures=str(counts["failure"]),
        errors="0",
        skipped=str(counts["skipped"]),
    )
    suite.extend(cases)
    ElementTree.SubElement(suite, "system-out").text = _xml(_summarize(report))
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, "unicode")


def _findings(report: dict[str, Any], failing: Collection[str]) -> list[ElementTree.Element]:
    cases, seen = [], dict[str, int]()
    for finding in findings_by_severity(report):
        symptom = finding.get("symptom") or "unnamed symptom"
        seen[symptom] = seen.get(symptom, 0) + 1
        number_of = f" ({seen[symptom]})" if seen[symptom] > 1 else ""
        case = _case(f"{symptom}{number_of}")
        severity = finding.get("severity") or "error"
        message = finding.get("message") or ""
        text = _xml("\n".join([message, *_details(finding, report)]))
        if severity in failing:
            element = ElementTree.SubElement(
                case, "failure", type=_xml(severity), message=_xml(message)
            )
            element.text = text
        else:
            ElementTree.SubElement(case, "system-out").text = f"{severity}: {text}"
        cases.append(case)
    return cases


def _details(finding: dict[str, Any], report: dict[str, Any]) -> list[str]:
    rows, culprits = items(report, "layers"), items(finding, "culprits")
    lines = [f"culprits: {join_names(culprits, rows)}"] if culprits else []
    lines += [describe_evidence(evidence, rows).line for evidence in items(finding, "evidence")]
    treatments = join_remedies(list_remedies(finding, report))
    return [*lines, f"treatments: {treatments}"] if treatments else lines


def _others(report: dict[str, Any]) -> list[ElementTree.Element]:
    found = {finding.get("symptom") for finding in items(report, "findings")}
    cases = []
    for check in items(report, "checks"):
        if check.get("symptom") in found:
            continue
        case = _case(check.get("symptom") or "unnamed symptom")
        if check.get("status") == "not examined":
            ElementTree.SubElement(case, "skipped", message=_xml(check.get("reason") or ""))
        cases.append(case)
    return cases


def _case(name: str) -> ElementTree.Element:
    return ElementTree.Element("testcase", classname="gradscope", name=_xml(name))


def _summarize(report: dict[str, Any]) -> str:
    opinion = verdict(report)
    trials = [f"trial of {trial_title(t)}: {trial_outcome(t)}" for t in items(report, "trials")]
    rehearsal = [f"rehearsal, {name}: {value}" for name, value in rehearsal_lines(report)]
    training = [f"training, {name}: {value}" for name, value in history_lines(report)]
    return "\n".join([opinion.sentence, *opinion.advice, *trials, *rehearsal, *training])


def _xml(text: str) -> str:
    return _NO_CHARACTER.sub("�", text)
