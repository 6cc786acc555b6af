"""What keeps a report from being final, in words for the terminal and the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ablative.reports.provenance.findings import Finding
from ablative.study.core.errors import AblateError


class NotFinalError(AblateError):
    """A final build was asked for, and something is not final; nothing was written."""

    def __init__(self, study: str, findings: Sequence[Finding]) -> None:
        kinds = ", ".join(dict.fromkeys(finding.kind for finding in findings))
        super().__init__(f"{study} is not final: {kinds}; nothing was written ('--allow KIND' accepts one)")
        self.findings = tuple(findings)

    def to_json(self) -> list[dict[str, Any]]:
        return [finding.to_json() for finding in self.findings]


def render_findings_text(findings: Sequence[Finding]) -> str:
    """Two lines for each finding, under a heading; empty where there is none."""
    if not findings:
        return ""
    lines = ["Before it is final:"]
    for finding in findings:
        where = f" [{finding.outputs}]" if finding.places else ""
        lines += [f"  {finding.sign or '–'} {finding.kind}: {finding.text}{where}", f"      → {finding.remedy}"]
    return "\n".join(lines)
