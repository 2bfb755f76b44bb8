"""Comparing mechanisms: one record per run, and tables from the records alone."""

from syncattn.benchmarks.environment import commit, device_description, environment
from syncattn.benchmarks.records import Problem, Record, append_record, read_records
from syncattn.benchmarks.tables import (
    Statistic,
    SummaryRow,
    print_table,
    split_tables,
    summary_table,
    to_csv,
    to_markdown,
)

__all__ = [
    "Problem",
    "Record",
    "Statistic",
    "SummaryRow",
    "append_record",
    "commit",
    "device_description",
    "environment",
    "print_table",
    "read_records",
    "split_tables",
    "summary_table",
    "to_csv",
    "to_markdown",
]
