"""An explanation or a whole audit, drawn: HTML for pages and notebooks, plain or coloured text for terminals."""

from pellucid.report.leaderboard import Board
from pellucid.report.leaderboard_page import leaderboard_page
from pellucid.report.page import explanation_fragment, explanation_page, run_page
from pellucid.report.run_view import (
    Accuracy,
    Agreement,
    CalibrationBin,
    CaseView,
    Change,
    CohortField,
    Counterfactual,
    Deletion,
    Interval,
    LedgerView,
    Option,
    RunView,
)
from pellucid.report.terminal import explanation_renderable, explanation_text
from pellucid.report.view import AttributionView, FeatureView, Mark

__all__ = [
    "Accuracy",
    "Agreement",
    "AttributionView",
    "Board",
    "CalibrationBin",
    "CaseView",
    "Change",
    "CohortField",
    "Counterfactual",
    "Deletion",
    "FeatureView",
    "Interval",
    "LedgerView",
    "Mark",
    "Option",
    "RunView",
    "explanation_fragment",
    "explanation_page",
    "explanation_renderable",
    "explanation_text",
    "leaderboard_page",
    "run_page",
]
