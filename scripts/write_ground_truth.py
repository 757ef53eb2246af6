"""Run every method on every ground truth and write docs/ground-truth.md. A minute on one core."""

from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs" / "ground-truth.md"


def text() -> str:
    """The page as it stands in its file."""
    from pellucid.benchmark import ground_truth_page, truth_table
    from pellucid.ground_truth import all_truths

    return ground_truth_page(all_truths(), truth_table())


if __name__ == "__main__":
    PAGE.write_text(text(), "utf-8")
