"""The statistics of a report in one paragraph, for a paper's appendix: how numbers are compared."""

from __future__ import annotations

from ablative.reports.stats.decide import ALPHA
from ablative.reports.stats.moderated import PRIOR
from ablative.reports.tables.escape import latex

SENTENCES = (
    "A table's numbers are means over seeds, with the sample standard deviation (n - 1).",
    "Rows of a column, and the arms of a claim, are compared by Student's t. Where all have the same seeds, "
    "these are blocks: what a seed does to all rows alike is no error.",
    "A row's variance over seeds is the mean of the row's and of the column's, weighted by degrees of freedom "
    f"(n - 1 and {PRIOR:g}), and at least the row's; the column's is the mean variance of the rows that vary at "
    "all. Two arms alone have the error of the paired t test.",
    "Degrees of freedom are Satterthwaite's, at most those of all rows together.",
    "Where values lie on a grid, as accuracies on a test set of N samples do, no variance is below that of "
    "rounding to the grid (the step squared, over 12).",
    "What no seed changes, by its declaration or because no arm's values differ between seeds and none lie on a "
    "grid, is compared by its value, without a test.",
    "Bold rows are those that can be the column's best: each is tested, one-sided, against every row with a "
    f"better mean at {100 * ALPHA:g} %, with Bonferroni's correction for the rows that are left; rows that fail "
    "are taken away, and the tests are repeated for the others until none fails. The set ends at the first row "
    "that fails.",
    "Intervals are of 95 %, and differences to the baseline have p adjusted by Holm for the column's rows. "
    f"Equivalence within a margin is two one-sided tests at {100 * ALPHA:g} %. Verdicts on claims are given one "
    "by one, and their p adjusted by Holm for all claims of the study.",
    "In simulations with 2 to 5 seeds and 4 to 30 rows, whose spreads were equal or differed by a lognormal "
    "factor of up to e, the best row was bold in 95 % or more on average and in 92 % in the worst condition; at"
    " two seeds, intervals covered 94 to 96 % on average over contrasts, and about 88 % for the noisiest third "
    "where spreads differ most.",
)


def statistics_markdown(study: str) -> str:
    """The paragraph as Markdown."""
    return f"### Statistics of {study}\n\n{' '.join(SENTENCES)}\n"


def statistics_latex(study: str) -> str:
    """The paragraph as LaTeX, without a heading."""
    return f"% statistics of the study {study}, for an appendix\n{latex(' '.join(SENTENCES))}\n"
