"""Results: MLflow's store into DuckDB, and from there into tables, figures and one page."""
