"""The failure of a verification, with its findings. Light: the command's help loads it too."""

from __future__ import annotations

from audit_flows.amounts import counted
from audit_storage.verify.findings import Finding, VerifyReport
from claude_max_audit.errors import TerminalError

PRINTED_FINDINGS = 20
"""Findings that the run's log and the error name; the report has up to a thousand."""


class LakeNotWholeError(TerminalError):
    """The lake holds what does not fit. Nothing was changed."""

    def __init__(self, report: VerifyReport) -> None:
        self.report = report
        named = [line_of(finding) for finding in report.findings[:PRINTED_FINDINGS]]
        more = report.total_findings - len(named)
        if more > 0:
            named.append(f"and {more:,} more")
        super().__init__(
            f"the lake is not whole: {counted(report.total_findings, 'finding')}. Keep it as it "
            "is, and compare it with a copy:\n" + "\n".join([*named, *report.advice()])
        )


def line_of(finding: Finding) -> str:
    """Tell one finding in a line: what it is, of which entry, where."""
    entry = f" {finding.entry_id}" if finding.entry_id else ""
    return f"{finding.kind}{entry} in {finding.where}: {finding.detail}"
